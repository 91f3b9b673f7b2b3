"""Agents on a task: what they are shown, when, and that query episodes never teach."""

import contextlib
import signal
import sys
import time
from typing import ClassVar

import numpy as np
import pytest

import task_distributions
from harness import agents, seeding
from harness.agents import AgentError, AgentSource, TimeLimits
from harness.agents.playing import Scoring, TaskPlayer
from harness.config.schema import EvalConfig
from harness.execution import scoring
from harness.execution.jobs import Job
from harness.meta.rollouts.episode_loop import Clock
from harness.types import Cell

SHOTS, SUPPORT, QUERY, HORIZON = (0, 1, 3), 4, 2, 5
DIST = task_distributions.load("point_goal", horizon=HORIZON)
TASK = DIST.tasks("test")[3]
LIMITS = TimeLimits()


def played(make, dist=DIST, *, limits=LIMITS, query=QUERY, task=None):
    plan = Scoring(SHOTS, SUPPORT, query, seed=7)
    return TaskPlayer(dist, task or dist.tasks("test")[3], make, plan, limits, Clock()).play()


class Still:
    def act(self, obs):
        return np.zeros((len(obs), 2))


class Recorder(Still):
    """Remembers every call, in all agents of the test."""

    calls: ClassVar = []

    def begin_task(self, spec, num_episodes, seed):
        self.calls.append(("task", num_episodes, seed))

    def begin_episodes(self, num_episodes, query):
        self.calls.append(("query" if query else "support", num_episodes))


class Learner:
    """Moves by what it has learned: one more step length in every episode that it observes."""

    def __init__(self, rate=0.1):
        self.rate, self.learned = rate, 0.0

    def act(self, obs):
        return np.full((len(obs), 2), self.learned)

    def observe(self, obs, action, reward, terminated, truncated):
        if truncated.all():
            self.learned += self.rate


class Rewound(Learner):
    def snapshot(self):
        return self.learned

    def restore(self, state):
        self.learned = state


class Adapter(Learner):
    observe = None

    def __init__(self):
        super().__init__()
        self.seen = []

    def adapt(self, episodes):
        assert episodes.obs.shape == (SUPPORT, HORIZON, 2)
        assert episodes.mask.all()
        assert not episodes.terminated.any()
        assert (episodes.actions == np.float32(self.learned)).all()
        self.learned += self.rate


def single(base):
    """An agent of one episode at a time, whose arrays have no axis of episodes."""

    class Single(base):
        batched = False

        def act(self, obs):
            assert obs.shape == (2,)
            return super().act(obs[None])[0]

        def observe(self, obs, action, reward, terminated, truncated):
            assert (obs.shape, action.shape, np.shape(reward)) == ((2,), (2,), ())
            super().observe(
                obs[None], action[None], *map(np.atleast_1d, (reward, terminated, truncated))
            )

    if base.observe is None:
        Single.observe = None
    return Single


def test_support_and_query_episodes_have_the_seeds_of_the_common_protocol():
    starts = []

    class Spy(Still):
        def act(self, obs):
            starts.append(obs)
            return super().act(obs)

        def adapt(self, episodes):
            starts.clear()

    played(Spy)
    seeds = seeding.episode_seeds(7, "evaluate/test/query", 0, 3, count=QUERY)
    env = DIST.make_batch([TASK], QUERY)
    np.testing.assert_array_equal(starts[0], env.reset(seeds))
    assert starts[0].dtype == np.float64


def test_an_agent_without_observe_and_adapt_plays_its_query_episodes_once():
    Recorder.calls.clear()
    outcome = played(Recorder)
    assert [call[0] for call in Recorder.calls] == ["task", "query"]
    assert outcome.adapter == "none"
    assert outcome.episodes.support == ()
    assert set(outcome.episodes.query) == set(SHOTS)


def test_an_agent_that_adapts_gets_every_shot_and_is_rewound():
    class Both(Recorder, Adapter):
        act = Adapter.act
        snapshot, restore = Rewound.snapshot, Rewound.restore

        def __init__(self):
            Adapter.__init__(self)

    Recorder.calls.clear()
    outcome = played(Both)
    order = [call for call in Recorder.calls if call[0] != "task"]
    support, query = ("support", SUPPORT), ("query", QUERY)
    assert order == [query, support, query, support, support, query]
    assert outcome.adapter == "adapt"
    assert len(outcome.episodes.support) == 3
    for shots in SHOTS:
        assert (outcome.episodes.query[shots].actions == np.float32(0.1 * shots)).all()


@pytest.mark.parametrize("agent", [Learner, Rewound, single(Learner), single(Rewound)])
def test_query_episodes_never_teach(agent):
    outcome = played(agent)
    assert outcome.adapter == "memory"
    for shots in SHOTS:
        actions = outcome.episodes.query[shots].actions
        assert actions.shape == (1, QUERY, HORIZON, 2)
        np.testing.assert_allclose(actions, 0.1 * shots, rtol=1e-6)


@pytest.mark.parametrize("agent", [Learner, Adapter, Still])
def test_an_agent_of_one_episode_plays_as_a_batched_one_does(agent):
    if agent is Still:

        class Single(Still):
            batched = False

            def act(self, obs):
                return np.zeros(2)
    else:
        Single = single(agent)
    one, many = played(Single), played(agent)
    for shots in SHOTS:
        for name in ("obs", "rewards", "lengths", "mask"):
            left = getattr(one.episodes.query[shots], name)
            np.testing.assert_array_equal(left, getattr(many.episodes.query[shots], name))
    assert len(one.episodes.support) == len(many.episodes.support)
    for left, right in zip(one.episodes.support, many.episodes.support, strict=True):
        np.testing.assert_array_equal(left.obs, right.obs)


@pytest.mark.parametrize("form", ["scores", "choices"])
def test_finished_rows_are_marked_until_the_batch_is_over(form):
    flags = []

    class Watcher:
        def act(self, obs):
            over = flags[-1][0] if flags else np.zeros(len(obs), np.bool_)
            scores = np.eye(2)[np.where(np.arange(len(obs)) == 0, 0, len(flags) % 2)]
            if form == "choices":
                return np.where(over, -7, scores.argmax(axis=1))
            return np.where(over[:, None], np.nan, scores)  # nobody minds what they answer

        def observe(self, obs, action, reward, terminated, truncated):
            flags.append((terminated.copy(), reward.copy()))

        def begin_episodes(self, num_episodes, query):
            flags.clear()

    cartpole = task_distributions.load("cartpole", horizon=60)
    query = played(Watcher, cartpole, task=cartpole.tasks("test")[0]).episodes.query[3]
    first, second = query.lengths[0]
    assert first < second == len(flags)
    for step, (terminated, reward) in enumerate(flags, 1):
        assert terminated[0] == (step >= first)
        assert reward[0] == (step <= first)


UNINTERRUPTED = []
BAD = {
    "a wrong shape": lambda obs: np.zeros((len(obs), 3)),
    "NaN": lambda obs: np.where(obs[:, :1] > -9, np.nan, 0) * np.ones((1, 2)),
    "text": lambda obs: "left",
    "nothing": lambda obs: None,
    "an exit": lambda obs: sys.exit(0),
    "an error": lambda obs: obs.missing,
    "a hang": lambda obs: (time.sleep(20), UNINTERRUPTED.append(obs)),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_answer_names_the_task_the_seed_and_the_step(case):
    class Bad(Still):
        def act(self, obs):
            return BAD[case](obs)

    with pytest.raises(
        AgentError, match=r"^test/3, seed 7, after 0 shots, query episodes, step 0: "
    ):
        played(Bad, limits=TimeLimits(act=0.2))
    assert signal.getitimer(signal.ITIMER_REAL)[0] > 1  # pytest's own timer goes on
    assert UNINTERRUPTED == []


def test_an_adaptation_that_hangs_is_named():
    class Slow(Still):
        def adapt(self, episodes):
            while True:
                with contextlib.suppress(Exception):
                    time.sleep(60)

    with pytest.raises(AgentError, match=r"^test/3, seed 7, shot 1: adapt took longer than"):
        played(Slow, limits=TimeLimits(adapt=0.2))


def test_an_agent_may_see_the_task_and_its_row_says_so():
    shown = []

    class Expert(Still):
        def show_task(self, task, env):
            shown.append((task, env.tasks))

    assert played(Expert).adapter == "task shown"
    assert shown == [(TASK, (TASK,))]

    class Adapting(Expert):
        def adapt(self, episodes):
            pass

    assert played(Adapting).adapter == "task shown, adapt"


def job(dist, split="test", indices=(0, 3, 5)):
    return Job(Cell(dist.name, "mine", "agent", 7), "agent", 0, 0, split, indices, indices)


@pytest.mark.parametrize("name", ["point_goal", "cartpole"])
@pytest.mark.parametrize(
    ("agent", "line"), [("random", "random-action"), ("constant", "zero-action")]
)
def test_a_random_agent_scores_as_the_reference_line_does(name, agent, line):
    dist, evaluation = task_distributions.load(name, horizon=20), EvalConfig(few_shot=(1,))
    source = AgentSource(agent, agents.settings_class(agent)())
    rows = scoring.agent(dist, evaluation, job(dist), source, Clock())
    lines = scoring.reference(dist, evaluation, job(dist), Clock())

    def returns(records):
        return {(r.task, r.query_episode): (r.return_, r.length_steps) for r in records}

    for shots in evaluation.shots:
        mine = returns(r for r in rows if r.shots == shots)
        assert mine == returns(r for r in lines if r.policy == line)
    assert len(mine) == 3 * evaluation.query_episodes


def test_records_say_what_the_agent_declares():
    class Sized(Adapter):
        num_params, train_env_steps = 12, np.int64(3_000)

        def adapt(self, episodes):
            self.learned += 0.1

    source = AgentSource("mine", factory=Sized)
    evaluation = EvalConfig(few_shot=(2,), episodes_per_shot=3, query_episodes=2)
    rows = scoring.agent(DIST, evaluation, job(DIST, indices=(1,)), source, Clock())
    assert {(r.num_params, r.train_env_steps, r.adapter) for r in rows} == {(12, 3000, "adapt")}
    costs = {(r.shots, r.adaptation_steps, r.support_env_steps) for r in rows}
    assert costs == {(0, 0, 0), (2, 2, 2 * 3 * HORIZON)}


@pytest.mark.parametrize("count", [-1, 2**63, 1.5, True])
def test_a_declared_number_that_no_record_can_hold_is_the_agents_error(count):
    class Boasting(Still):
        num_params = count

    source = AgentSource("mine", factory=Boasting)
    with pytest.raises(AgentError, match="num_params"):
        scoring.agent(DIST, EvalConfig(few_shot=(1,)), job(DIST, indices=(1,)), source, Clock())


def test_an_agent_that_catches_its_interruption_is_interrupted_again():
    finished = []

    class Stubborn(Still):
        def act(self, obs):
            with contextlib.suppress(BaseException):
                time.sleep(20)
            time.sleep(20)
            finished.append(True)

    with pytest.raises(AgentError, match="act took longer than"):
        played(Stubborn, limits=TimeLimits(act=0.05))
    assert not finished
