"""Online adaptation on Gymnasium environments."""

import gymnasium
import numpy as np
import pytest
import torch

from harness.toolkit import AdaptationConfig, OnlineLoss, TestTimeAdapter
from policies.modules import PolicyModule
from policies.ssm import ImprovedSSM

POINT_GOAL = "task_distributions:MetaRL/point_goal-v1"


def point_goal(task: int = 0):
    return gymnasium.make(POINT_GOAL, split="test", task=task)


def make_policy(name: str = "ssm"):
    torch.manual_seed(0)
    if name == "improved":
        return ImprovedSSM(2, 2, state_dim=8, hidden_dim=16)
    return PolicyModule(name, obs_dim=2, action_dim=2)


class Short:
    """Three steps with the interface of ``Environment``: bare observations, four values a step."""

    def __init__(self, cut: bool = False) -> None:
        self._cut, self.actions = cut, []

    def reset(self):
        self._steps = 0
        return np.zeros((1, 2), np.float32)

    def step(self, action):
        self._steps += 1
        self.actions.append(action)
        over = self._steps == 3
        info = {"truncated": over and self._cut}
        return np.full((1, 2), self._steps), np.array([1.0]), np.array([over]), info


@pytest.mark.parametrize("name", ["improved", "ssm", "lstm", "gru", "transformer", "mlp"])
def test_every_policy_plays_and_adapts(name):
    policy = make_policy(name)
    before = torch.nn.utils.parameters_to_vector(policy.parameters()).clone()
    adapter = TestTimeAdapter(policy, adaptation_lr=1e-3, adaptation_steps=3, buffer_size=40)
    returns, stats = adapter.adapt_online(point_goal(), num_episodes=3, adapt_every=10, seed=0)
    assert len(returns) == 3
    assert all(-60 < value < 0 for value in returns)
    assert [s["buffer_steps"] for s in stats] == [10, 20, 30, 40, 40, 40, 40]
    assert [s["episode"] for s in stats] == [0, 0, 1, 1, 1, 2, 2]
    assert all(s["steps"] == 3 for s in stats)
    moved = torch.nn.utils.parameters_to_vector(policy.parameters()) - before
    assert moved.norm().item() == pytest.approx(stats[-1]["drift"], rel=1e-3)
    adapter.reset()
    assert torch.equal(torch.nn.utils.parameters_to_vector(policy.parameters()), before)


@pytest.mark.parametrize("setting", ["adaptation_lr", "adaptation_steps"])
def test_learning_rate_and_steps_take_effect(setting):
    def drift(**settings):
        torch.manual_seed(3)
        adapter = TestTimeAdapter(make_policy(), **{"adaptation_steps": 2} | settings)
        return adapter.adapt_online(point_goal(), 1, adapt_every=25, seed=0)[1][-1]["drift"]

    small, large = {"adaptation_lr": (1e-5, 1e-3), "adaptation_steps": (1, 9)}[setting]
    assert drift(**{setting: small}) < 0.5 * drift(**{setting: large})


def test_guards_of_the_config_hold():
    torch.manual_seed(0)
    config = AdaptationConfig(trust_radius=0.01)
    adapter = TestTimeAdapter(make_policy(), 1e-2, 5, config=config)
    _, stats = adapter.adapt_online(point_goal(), 1)
    assert stats[-1]["drift"] == pytest.approx(0.01, rel=1e-3)


def test_the_likelihood_ratio_starts_at_one_for_recurrent_policies():
    """The stored likelihoods match the recomputed ones, even from the middle of an episode."""
    policy = make_policy("gru")
    adapter = TestTimeAdapter(policy, 1e-9, 1, buffer_size=33)
    adapter.adapt_online(point_goal(), num_episodes=3, adapt_every=75, seed=0)
    batch = adapter._batch()
    assert batch["first"].sum() == 1
    assert batch["hidden_state"][0].abs().sum() > 0
    log_probs, _, _ = policy.evaluate_actions(
        batch["obs"], batch["actions"], batch["hidden_state"], batch["first"]
    )
    torch.testing.assert_close(log_probs, batch["log_probs"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("cut", [False, True])
def test_only_truncated_episodes_are_bootstrapped(cut):
    policy = make_policy()
    loss = OnlineLoss(gamma=0.5, gae_lambda=1.0)
    adapter = TestTimeAdapter(policy, 1e-9, 1, loss=loss)
    returns, stats = adapter.adapt_online(Short(cut), num_episodes=2, adapt_every=3)
    assert returns == [3.0, 3.0]
    assert len(stats) == 2
    batch = adapter._batch()
    obs = torch.tensor([[[0.0, 0], [1, 1], [2, 2], [3, 3]]])
    after = policy(obs)[2][0, 3].item() if cut else 0.0
    expected = [1.75 + after / 8, 1.5 + after / 4, 1 + after / 2] * 2
    assert batch["returns"][0].tolist() == pytest.approx(expected, abs=1e-4)


def test_the_environment_gets_actions_within_its_bounds():
    class Bounded(Short):
        action_space = gymnasium.spaces.Box(-0.1, 0.1, (1, 2), np.float32)

    env = Bounded()
    TestTimeAdapter(make_policy()).adapt_online(env, 2)
    actions = np.stack(env.actions)
    assert actions.shape == (6, 1, 2)
    assert abs(actions).max() <= np.float32(0.1)


def test_it_learns_where_the_goal_is():
    torch.manual_seed(0)
    adapter = TestTimeAdapter(make_policy(), 1e-2, 20, buffer_size=200)
    returns, _ = adapter.adapt_online(point_goal(), num_episodes=40, adapt_every=100, seed=0)
    assert np.mean(returns[-5:]) > np.mean(returns[:5]) + 5
