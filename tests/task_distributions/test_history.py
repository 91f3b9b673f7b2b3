"""The history in observations is what the policies of this project are fed in rl2."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import task_distributions
from harness.meta.rollouts.inputs import Inputs, Past
from task_distributions.history import HistoryObservation

STEPS, HORIZON = 11, 4


def _make(name: str, mode: AutoresetMode):
    return gymnasium.make_vec(
        f"task_distributions:MetaRL/{name}-v1",
        3,
        split="train",
        max_episode_steps=HORIZON,
        autoreset_mode=mode,
    )


def test_a_reset_begins_an_episode_after_an_autoreset_too():
    envs = HistoryObservation(_make("point_goal", AutoresetMode.SAME_STEP))
    envs.reset(seed=0)
    for _ in range(HORIZON):
        last = envs.step(np.zeros((3, 2), np.float32))[0]
    assert last[:, -1].tolist() == [1, 1, 1]
    assert envs.reset(seed=1)[0][:, -1].tolist() == [1, 1, 1]


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("name", ["point_goal", "cartpole"])
def test_the_layout_is_that_of_the_policies(name: str, mode: AutoresetMode):
    spec = task_distributions.load(name).spec
    envs, plain = HistoryObservation(_make(name, mode)), _make(name, mode)
    rng = np.random.default_rng(0)
    rows, obs, past = [], [], []
    last = np.zeros((3, spec.action_dim)), np.zeros(3)
    observed, boundary = envs.reset(seed=5)[0], np.ones(3, bool)
    expected, over = plain.reset(seed=5)[0], np.zeros(3, bool)
    for _ in range(STEPS):
        rows.append(observed)
        obs.append(expected)
        past.append((*last, boundary))
        assert envs.observation_space.contains(observed)
        if spec.discrete:
            actions = rng.integers(0, 2, 3)
            rewarded = np.eye(2)[actions]
        else:
            actions = rng.uniform(-1.5, 1.5, (3, 2)).astype(np.float32)
            rewarded = np.clip(actions, -1, 1)
        observed, _, *ends, infos = envs.step(actions)
        expected, reward, terminated, truncated, theirs = plain.step(actions)
        if mode is not AutoresetMode.NEXT_STEP or not over.all():
            last = rewarded, reward
        assert ends[1].tolist() == truncated.tolist()
        boundary, over = over.copy(), terminated | truncated
        if mode is AutoresetMode.SAME_STEP:
            boundary = over
            for b in np.flatnonzero(over):
                history = [*rewarded[b], reward[b], 0.0]
                np.testing.assert_allclose(
                    infos["final_obs"][b], [*theirs["final_obs"][b], *history], rtol=1e-12
                )
        elif mode is AutoresetMode.DISABLED:
            boundary = over
            if over.any():
                options = {"reset_mask": over}
                observed = envs.reset(options=options)[0]
                expected = plain.reset(options=options)[0]
                over = np.zeros(3, bool)
    stack = lambda k: torch.from_numpy(np.stack([each[k] for each in past], 1)[:, None])  # noqa: E731
    fed = Inputs(spec, history=True).assemble(
        torch.from_numpy(np.stack(obs, 1)[:, None]),
        Past(action=stack(0).double(), reward=stack(1), boundary=stack(2)),
        (),
    )
    np.testing.assert_allclose(np.stack(rows, 1), fed[:, 0].numpy(), rtol=1e-6)
    assert fed[0, 0, :, -1].sum() >= 2


def test_only_a_reset_of_all_forgets():
    envs = HistoryObservation(_make("point_goal", AutoresetMode.DISABLED))
    envs.reset(seed=0)
    envs.step(np.full((3, 2), 0.5))
    some = envs.reset(options={"reset_mask": np.array([True, False, False])})[0]
    np.testing.assert_array_equal(some[:, 2:4], 0.5)
    np.testing.assert_array_equal(some[:, -1], [1.0, 0.0, 0.0])
    assert (some[:, 4] < 0).all()
    everything = envs.reset()[0]
    np.testing.assert_array_equal(everything[:, 2:], [[0.0, 0.0, 0.0, 1.0]] * 3)


def test_gymnasiums_own_vector_environments_can_be_wrapped():
    make = lambda: gymnasium.make("CartPole-v1")  # noqa: E731
    envs = HistoryObservation(SyncVectorEnv([make, make]))
    assert envs.reset(seed=0)[0].dtype == np.float32
    obs = envs.step(np.array([0, 1]))[0]
    np.testing.assert_array_equal(obs[:, 4:], [[1, 0, 1, 0], [0, 1, 1, 0]])
    with pytest.raises(TypeError, match="Discrete"):
        HistoryObservation(SyncVectorEnv([lambda: gymnasium.make("Taxi-v3")]))
