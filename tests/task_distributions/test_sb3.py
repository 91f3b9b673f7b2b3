"""The adapter for Stable-Baselines3 against its own vector environment of single environments."""

import gymnasium
import numpy as np
import pytest

pytest.importorskip("stable_baselines3")
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from harness.conformance.task_dists import assert_within_rounding
from task_distributions.sb3 import SB3VecEnv

ID = "task_distributions:MetaRL/{}-v1"


def _make(name: str, count: int, mode: str = "SameStep", **options):
    return gymnasium.make_vec(ID.format(name), count, split="train", autoreset_mode=mode, **options)


@pytest.mark.parametrize("name", ["point_goal", "cartpole"])
def test_it_is_sb3s_vector_of_single_environments(name: str):
    options = {"max_episode_steps": 6}
    ours = SB3VecEnv(_make(name, 2, tasks=[1, 2], **options))
    makers = [
        lambda i=i: gymnasium.make(ID.format(name), split="train", task=i, **options)
        for i in (1, 2)
    ]
    theirs = DummyVecEnv(makers)
    assert (ours.observation_space, ours.action_space) == (
        theirs.observation_space,
        theirs.action_space,
    )
    assert ours.seed(3) == theirs.seed(3)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    assert ours.reset_infos == theirs.reset_infos
    theirs.action_space.seed(0)
    ended = 0
    for _ in range(20):
        actions = np.stack([theirs.action_space.sample() for _ in range(2)])
        one, other = ours.step(actions), theirs.step(actions)
        for left, right in zip(one[:3], other[:3], strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-9)  # theirs are float32
        for left, right in zip(one[3], other[3], strict=True):
            assert left.keys() == right.keys()
            for key in left:
                assert_within_rounding(left[key], right[key])
        ended += other[2].sum()
        assert ours.reset_infos == theirs.reset_infos
    assert ended == 6


@pytest.mark.slow
def test_ppo_trains_on_it(tmp_path):
    envs = VecMonitor(SB3VecEnv(_make("point_goal", 4, task=0)))
    model = PPO("MlpPolicy", envs, n_steps=50, batch_size=100, n_epochs=1, seed=0, device="cpu")
    model.learn(400)
    assert [info["l"] for info in model.ep_info_buffer] == [25] * 16
    model.save(tmp_path / "model.zip")
    again = PPO.load(tmp_path / "model.zip", env=envs, device="cpu")
    obs = envs.reset()
    np.testing.assert_array_equal(
        again.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0]
    )


def test_other_autoreset_modes_are_refused():
    with pytest.raises(ValueError, match="SameStep"):
        SB3VecEnv(_make("point_goal", 2, mode="NextStep"))


@pytest.mark.slow
def test_success_is_reported_as_sb3_expects():
    envs = SB3VecEnv(
        gymnasium.make_vec(
            "task_distributions:MetaRL/metaworld-ml10-v2",
            2,
            task=0,
            max_episode_steps=2,
            autoreset_mode="SameStep",
        )
    )
    envs.reset()
    assert "is_success" not in envs.step(np.zeros((2, 4)))[3][0]
    infos = envs.step(np.zeros((2, 4)))[3]
    assert [info["is_success"] for info in infos] == [False, False]
    assert [info["TimeLimit.truncated"] for info in infos] == [True, True]
