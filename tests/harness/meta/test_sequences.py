"""Learning from sequences meets the inputs, memory and log-probabilities of acting."""

from dataclasses import fields

import numpy as np
import pytest
import torch

import policies
from harness.meta.rollouts.actor import Actor, rollout
from harness.meta.rollouts.batch import AdvantageEstimator, Batch, Stretches, cut_sequences, prepare
from harness.meta.rollouts.episode_loop import Clock, draw_noise
from harness.meta.rollouts.inputs import Goals, Inputs
from harness.meta.rollouts.normalizer import Normalizer
from task_distributions import EnvSpec, Task, load
from task_distributions.task_env import BatchedTaskEnv

HORIZON, TASKS, SEQUENCES = 5, 2, 3
NEVER = 99
# Per episode: environment b ends by itself after that many steps, or turns invalid at that step.
ENDS = ([NEVER, 2, NEVER, 4, NEVER, 1], [3, NEVER, NEVER, NEVER, 2, NEVER])
INVALID = ([NEVER, NEVER, 3, NEVER, NEVER, NEVER], [NEVER, NEVER, NEVER, 0, NEVER, NEVER])
SPEC = EnvSpec(3, 2, HORIZON)


class Scripted(BatchedTaskEnv):
    """Observations and rewards drawn at random; episodes end as the lists say."""

    def __init__(self, episode: int):
        tasks = [Task("scripted", 1, "train", i, f"train/{i}", ()) for i in range(TASKS)]
        super().__init__(SPEC, tasks, SEQUENCES)
        self.episode, self.rng = episode, np.random.default_rng(episode)

    def _start(self, rows, rngs):
        self.count = 0
        return self.rng.normal(size=(len(rows), self.spec.obs_dim))

    def _advance(self, controls, valid, obs, reward):
        valid &= self.count != np.array(INVALID[self.episode])
        self.count += 1
        obs[valid] = self.rng.normal(size=obs.shape)[valid]
        reward[:] = self.rng.normal(size=reward.shape)
        return self.count >= np.array(ENDS[self.episode])


def play(policy_name: str, *, history: bool = True):
    """Two episodes per sequence from one memory; return the blocks and the actor."""
    inputs = Inputs(SPEC, history=history)
    policy = policies.build(policy_name, obs_dim=inputs.dim, action_dim=2)
    generator = torch.Generator().manual_seed(1)
    params = {
        key: value + 0.2 * torch.randn(value.shape, generator=generator)
        for key, value in policy.init_params(0).items()
    }
    normalizer = Normalizer(torch.full((3,), 0.3), torch.full((3,), 0.7))
    actor = now = Actor(policy, params, normalizer, 0.8, inputs, reward_unit=0.5)
    blocks = []
    for episode in range(2):
        generators = [np.random.default_rng([episode, n]) for n in range(TASKS)]
        noise = draw_noise(generators, SPEC, SEQUENCES)
        env = Scripted(episode)
        episodes, after = rollout(env, now, range(TASKS * SEQUENCES), noise, Clock())
        blocks.append(episodes)
        now = Actor(policy, params, normalizer, 0.8, inputs, 0.5, context=after)
    return blocks, actor, tuple(env.tasks)


def learnable(blocks, actor, tasks, return_scale: float = 1.0) -> Batch:
    estimator = AdvantageEstimator(0.9, 0.8, "value", return_scale)
    return prepare(blocks, actor, tasks, estimator, normalize=False)


def test_linear_advantages_are_those_of_single_episodes():
    """Episodes end to end, some of them short or invalid, count as if each had its own row."""
    blocks, actor, tasks = play("gru")
    estimator = AdvantageEstimator(0.9, 0.8, "linear")
    joined = prepare(blocks, actor, tasks, estimator, normalize=False)
    rows = [
        np.concatenate([getattr(block, field.name) for block in blocks], 1)
        for field in fields(blocks[0])
    ]
    apart = prepare([type(blocks[0])(*rows)], actor, tasks, estimator, normalize=False)
    for task in range(TASKS):
        for sequence in range(SEQUENCES):
            episodes = (apart.mask[task, sequence], apart.mask[task, sequence + SEQUENCES])
            expected = [
                apart.advantages[task, row][mask]
                for row, mask in zip((sequence, sequence + SEQUENCES), episodes, strict=True)
            ]
            got = joined.advantages[task, sequence][joined.mask[task, sequence]]
            torch.testing.assert_close(got, torch.cat(expected), rtol=0, atol=1e-4)
    assert joined.value_targets is None


def test_a_critic_without_the_task_is_refused():
    blocks, actor, tasks = play("mlp")
    estimator = AdvantageEstimator(0.9, 0.8, "value")
    with pytest.raises(ValueError, match="goals"):
        prepare(blocks, actor, tasks, estimator, critic=lambda x, task: x[..., 0])


@pytest.mark.parametrize("policy", policies.names())
def test_unrolling_gives_the_log_probabilities_of_acting(policy):
    """Inputs, memory and order are the same, with early ends and invalid episodes in between."""
    blocks, actor, tasks = play(policy)
    batch = learnable(blocks, actor, tasks)
    out = batch.forward(actor.policy, actor.params)
    again = out.head.log_prob(batch.actions)
    torch.testing.assert_close(again[batch.mask], batch.log_probs[batch.mask], rtol=0, atol=1e-4)
    assert batch.mask.sum() == sum(block.mask.sum() for block in blocks)


def test_memory_and_past_matter_to_the_second_episode():
    blocks, actor, tasks = play("gru")
    batch = learnable(blocks[1:], actor, tasks)
    out = batch.forward(actor.policy, actor.params)
    gap = (out.head.log_prob(batch.actions) - batch.log_probs)[batch.mask].abs()
    assert gap.max() > 1e-2


def test_an_invalid_episode_is_left_out_and_leaves_no_trace():
    blocks, actor, tasks = play("gru")
    batch = learnable(blocks, actor, tasks)
    assert batch.mask.sum(-1).tolist() == [[5 + 3, 2 + 5, 0 + 5], [4 + 0, 5 + 2, 1 + 5]]
    boundary = batch.x[..., -1].bool() & batch.mask
    assert [torch.where(row)[0].tolist() for row in boundary.flatten(0, 1)] == [
        [0, 5],
        [0, 2],
        [0],
        [0],
        [0, 5],
        [0, 1],
    ]
    # Nothing came before the only valid episode of this sequence: no action, no reward.
    assert batch.x[0, 2, 0, 3:-1].abs().max() == 0
    assert batch.x[0, 1, 2, 3:-1].abs().min() > 0


def test_what_is_fed_is_the_clipped_action_and_the_scaled_reward():
    blocks, actor, tasks = play("gru")
    x = learnable(blocks, actor, tasks).x
    actions, rewards = blocks[0].actions[0, 0, :4], blocks[0].rewards[0, 0, :4]
    np.testing.assert_allclose(x[0, 0, 1:5, 3:5], np.clip(actions * 0.8, -1, 1), atol=1e-6)
    np.testing.assert_allclose(x[0, 0, 1:5, 5], rewards / 0.5, rtol=1e-5)


def test_advantages_by_hand():
    """They run on into the next episode, stop where the MDP ended, and bootstrap at the end."""
    blocks, actor, tasks = play("mlp")
    batch = learnable(blocks, actor, tasks, return_scale=2.0)
    values = batch.forward(actor.policy, actor.params).value
    for n, e, ends in [(0, 1, {1}), (1, 0, {3}), (0, 0, {7}), (1, 1, {6})]:
        length = int(batch.mask[n, e].sum())
        rewards = np.concatenate([b.rewards[n, e][b.mask[n, e]] for b in blocks]) / 2.0
        value = values[n, e, :length].detach().numpy()
        follows = np.append(value[1:], _value_after(blocks, actor, n, e))
        expected, running = np.zeros(length), 0.0
        for t in reversed(range(length)):
            goes_on = 0.0 if t in ends else 0.9
            running = rewards[t] + goes_on * follows[t] - value[t] + goes_on * 0.8 * running
            expected[t] = running
        np.testing.assert_allclose(batch.advantages[n, e, :length], expected, atol=1e-4)
        target = batch.value_targets[n, e, :length]
        np.testing.assert_allclose(target, expected + value, atol=1e-4)


def _value_after(blocks, actor, n, e) -> float:
    """The value after the last step of the last valid episode (of a memoryless policy)."""
    block = [b for b in blocks if b.mask[n, e].any()][-1]
    at = int(block.mask[n, e].sum()) - 1
    obs = actor.normalizer(torch.from_numpy(block.last_obs[n, e]))
    action = np.clip(block.actions[n, e, at] * 0.8, -1, 1)
    reward = block.rewards[n, e, at] / 0.5
    x = torch.cat([obs, torch.from_numpy(action), torch.tensor([reward, 0.0])]).float()
    first = torch.ones(1, 1, 1, dtype=torch.bool)
    return float(actor.policy.forward(actor.params, x.view(1, 1, 1, -1), first, ()).value)


def test_whole_chunks_are_the_sequences_themselves():
    blocks, actor, tasks = play("gru")
    batch = learnable(blocks, actor, tasks)
    rows = cut_sequences(batch, actor, None).take([4, 1])
    assert torch.equal(rows.x[0, 0], batch.x[1, 1])
    assert torch.equal(rows.advantages[0, 1], batch.advantages[0, 1])


@pytest.mark.parametrize("policy", policies.names())
@pytest.mark.parametrize(
    "cut", [Stretches(1), Stretches(3), Stretches(5), Stretches(4, 1), Stretches(3, 2, 4)], ids=str
)
def test_chunks_bring_the_memory_of_acting_and_lose_no_step(policy, cut):
    blocks, actor, tasks = play(policy)
    batch = learnable(blocks, actor, tasks)
    chunks = cut_sequences(batch, actor, cut)
    assert chunks.x.shape[2] == cut.length + cut.burn_in
    assert chunks.mask.any(-1).all()
    assert chunks.mask.sum() == batch.mask.sum()
    again = chunks.forward(actor.policy, actor.params).head.log_prob(chunks.actions)
    close = {"rtol": 0, "atol": 1e-4}
    torch.testing.assert_close(again[chunks.mask], chunks.log_probs[chunks.mask], **close)
    for name in ("advantages", "value_targets"):
        left, right = (getattr(b, name)[b.mask].sort().values for b in (chunks, batch))
        assert torch.equal(left, right)


def test_goals_tell_tasks_apart_and_are_scaled_by_the_training_tasks():
    dist = load("halfcheetah-vel")
    goals = Goals.of_distribution(dist)
    rows = goals.of(dist.tasks("train")).numpy()
    assert rows.shape == (100, goals.dim) == (100, 1)
    assert rows.mean() == pytest.approx(0, abs=1e-6)
    assert rows.std() == pytest.approx(1)
    assert len(np.unique(rows)) == 100


def test_a_class_not_trained_on_is_no_class_and_a_scale_it_lacks_is_one():
    goals = Goals.of_distribution(load("metaworld-ml10"))
    for split, ones in (("train", 1), ("test", 0)):
        rows = goals.of(load("metaworld-ml10").tasks(split))
        assert (rows[:, -10:].sum(1) == ones).all()
    dist = load("imujoco-ant")
    same = Task("imujoco-ant", 1, "test", 0, "x", (("mass_scale", 1.0),))
    scaled = [i for i, key in enumerate(Goals.of_distribution(dist).keys) if "scale" in key]
    goals = Goals.of_distribution(dist)
    none = goals.of((Task("imujoco-ant", 1, "test", 0, "x", ()),))
    assert scaled
    assert torch.equal(none[0, scaled], goals.of((same,))[0, scaled])


def test_an_angle_enters_as_a_point_on_the_circle():
    goals = Goals.of_distribution(load("ant-dir"))
    near = [Task("ant-dir", 1, "test", 0, "test/0", (("angle", a),)) for a in (0.01, 6.27)]
    rows = goals.of(tuple(near))
    assert rows.shape == (2, 2)
    assert (rows[0] - rows[1]).abs().max() < 0.1


def test_classes_come_from_the_name():
    assert Task("d", 1, "test", 0, "reach-v3/17", ()).class_name == "reach-v3"
    assert Task("d", 1, "test", 0, "test/3", ()).class_name == ""
