"""A trained policy as an agent: loaded and played by hand, it scores what the records say."""

import dataclasses

import numpy as np
import pytest

from harness.agents import AgentError, AgentSource
from harness.config.schema import EvalConfig
from harness.conformance.learners import make_setup
from harness.execution import loaded_policy, scoring
from harness.execution.jobs import Job
from harness.execution.loaded_policy import LoadedPolicy, TaskFedPolicy
from harness.meta import learners
from harness.meta.meta_episode import SeedStream
from harness.meta.rollouts.episode_loop import Clock

EVALUATION = EvalConfig(few_shot=(1, 3), episodes_per_shot=4, query_episodes=2)
PRIVATE = ("adapter", "adapt_seconds", "policy", "learner", "cell")


class TreePolicy(LoadedPolicy):
    """Draws the noise of support episodes from where scoring draws it."""

    def __init__(self, setup, snapshot, key):
        self.key = key
        super().__init__(setup, snapshot)

    def reset(self, task=None, *, seed=0):
        super().reset(task, seed=seed)
        self.shot = 0

    def noise(self, num_episodes):
        path = (0, self.shot)
        self.shot += 1
        seed, phase = self.cell.seed, "evaluate/test/support"
        stream = SeedStream(seed, phase, path, (self.key,), num_episodes, sample=True)
        return stream.noise(self.dist.spec)


def scored(learner, policy, **kwargs):
    setup = make_setup(learner, policy=policy, **kwargs)
    built = learners.build(setup)
    state = built.init()
    for name, value in state.params.items():  # untrained heads hardly react to anything
        state.params[name] = value + 0.1 * np.random.default_rng(len(name)).normal()
    return setup, state.snapshot()


@pytest.mark.parametrize(
    ("learner", "policy", "dist"),
    [
        ("maml", "mlp", "point_goal"),
        ("maml", "gru", "point_goal"),
        ("rl2", "gru", "point_goal"),
        ("rl2", "gru", "cartpole"),
        ("multitask", "lstm", "cartpole"),
    ],
)
def test_our_own_policy_as_an_agent_scores_the_same_to_the_last_bit(learner, policy, dist):
    setup, snapshot = scored(learner, policy, task_dist=dist)
    job = Job(setup.cell, "evaluate", 0, 0, "test", (3,), (3,))
    ours = scoring.evaluate(setup, EVALUATION, job, snapshot, Clock())
    source = AgentSource("mine", factory=lambda: TreePolicy(setup, snapshot, 3))
    theirs = scoring.agent(setup.dist, EVALUATION, job, source, Clock())

    def plain(rows):
        return [
            {k: v for k, v in dataclasses.asdict(row).items() if k not in PRIVATE} for row in rows
        ]

    assert plain(theirs) == plain(ours)
    if dist == "point_goal":
        assert len({row.return_ for row in ours}) == 3 * 2


def test_a_policy_that_observes_the_task_does_not_act_without_it():
    policy = TaskFedPolicy(*scored("oracle", "mlp", task_dist="point_goal"))
    task = policy.dist.tasks("test")[0]
    obs = np.zeros(policy.dist.spec.obs_dim)
    with pytest.raises(AgentError, match="observes the task"):
        policy.act(obs)
    policy.reset(task)
    assert policy.act(obs).shape == (2,)


def test_an_invalid_support_episode_leaves_no_memory(monkeypatch):
    policy = LoadedPolicy(*scored("rl2", "gru", task_dist="point_goal"))
    task = policy.dist.tasks("test")[0]
    play = loaded_policy.play_episodes

    def unstable(*given):
        episodes = play(*given)
        return dataclasses.replace(episodes, invalid=np.array([[True, False]]))

    untouched = policy.snapshot()[0].context
    monkeypatch.setattr(loaded_policy, "play_episodes", unstable)
    policy.adapt(policy.play(task, [0, 1], query=False))
    memory = policy.snapshot()[0].context.action
    assert (memory[0, 0] == 0).all()
    assert (memory[0, 1] != 0).any()
    assert untouched is None


def test_sampled_query_episodes_teach_nothing():
    policy = LoadedPolicy(*scored("rl2", "gru", task_dist="point_goal"), deterministic=False)
    task = policy.dist.tasks("test")[0]
    returns = []
    for queries in (0, 2):
        policy.reset(seed=3)
        before = policy.snapshot()
        for _ in range(queries):
            policy.play(task, [5])
            policy.restore(before)
        returns.append(policy.play(task, [0], query=False).returns.tolist())
    assert returns[0] == returns[1]


def test_memory_of_one_episode_is_not_that_of_five():
    policy = LoadedPolicy(*scored("rl2", "gru", task_dist="point_goal"))
    task = policy.dist.tasks("test")[0]
    policy.adapt(policy.play(task, [0], query=False))
    assert len(policy.play(task, [1]).returns) == 1
    with pytest.raises(AgentError, match="1 episodes side by side, not 5"):
        policy.play(task, range(5))
    policy.reset()
    assert len(policy.play(task, range(5)).returns) == 5
