"""Agents on modules and policies, and their coordinator."""

import threading

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

import policies
from harness.toolkit import (
    AdaptationAgent,
    AdaptationConfig,
    Adapter,
    Agent,
    AgentCoordinator,
    MetaMAML,
    MetaMAMLAgent,
)
from policies.modules import PolicyModule
from policies.ssm import ImprovedSSM, StateSpaceModel


def point_goal(task: int = 0):
    return gymnasium.make("task_distributions:MetaRL/point_goal-v1", split="test", task=task)


def make_policy(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "improved":
        return ImprovedSSM(2, 2, state_dim=8, hidden_dim=16)
    return PolicyModule(name, obs_dim=2, action_dim=2)


def maml_agent(name: str = "ssm", **settings) -> MetaMAMLAgent:
    return MetaMAMLAgent(MetaMAML(make_policy(name), inner_lr=0.05), **settings)


def adaptation_agent(name: str = "ssm", **settings) -> AdaptationAgent:
    return AdaptationAgent(Adapter(make_policy(name), AdaptationConfig(lr=1e-2)), **settings)


def flat(model: nn.Module) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()


@pytest.mark.parametrize("make", [maml_agent, adaptation_agent])
@pytest.mark.parametrize("name", [*policies.names(), "improved"])
def test_every_policy_plays_and_adapts(make, name):
    agent, coordinator, env = make(name), AgentCoordinator(), point_goal()
    coordinator.register_agent(agent, "it")
    env.reset(seed=0)
    (returns,) = coordinator.run_episodes([env], num_episodes=2).values()
    assert len(returns) == 2
    assert len(agent.buffer) == 50
    before, obs = flat(agent.model), np.array([0.3, -0.2])
    agent._deterministic = True
    agent.reset()
    acted = agent.act(obs)
    info = agent.adapt()
    assert info["steps"] == 1
    agent.reset()
    assert not np.array_equal(agent.act(obs), acted)
    assert torch.equal(flat(agent.model), before) == isinstance(agent, MetaMAMLAgent)
    agent.forget()
    agent.reset()
    np.testing.assert_array_equal(agent.act(obs), acted)


def test_hidden_states_are_carried_within_an_episode_only():
    agent, obs = maml_agent("gru", deterministic=True), np.array([0.5, 1.0])
    agent.model.params()["mean.weight"].data.mul_(100)
    first, second = agent.act(obs), agent.act(obs)
    assert not np.allclose(first, second)
    agent.observe(obs, second, 0.0, truncated=True)
    np.testing.assert_array_equal(agent.act(obs), first)
    agent.reset()
    batch = agent.act(np.stack([obs, 2 * obs]))
    np.testing.assert_allclose(batch[0], first, atol=1e-6)


def test_the_stored_action_is_the_one_really_taken():
    """If the caller clips actions, the agent learns from the clipped ones."""
    agent, obs = adaptation_agent("gru"), np.array([0.5, 1.0])
    for reward in range(3):
        clipped = np.clip(agent.act(obs), -0.1, 0.1)
        agent.observe(obs, clipped, float(reward))
    batch = agent.experience()
    assert batch["actions"].abs().max() <= 0.1001
    log_probs, _, _ = agent.model.evaluate_actions(batch["obs"], batch["actions"])
    torch.testing.assert_close(batch["log_probs"], log_probs.detach(), atol=1e-5, rtol=1e-5)


def test_adapting_on_experience_favors_rewarded_actions():
    for make in (maml_agent, adaptation_agent):
        agent, obs = make("mlp", seed=1), np.zeros(2)
        for _ in range(40):
            agent.reset()
            action = agent.act(obs)
            agent.observe(obs, action, float(action[0]), terminated=True)
        for _ in range(1 if isinstance(agent, MetaMAMLAgent) else 5):
            agent.adapt()
        agent._deterministic = True
        agent.reset()
        assert agent.act(obs)[0] > 0.01, make


def test_maml_agent_adapts_and_updates_on_data():
    torch.manual_seed(0)
    model = StateSpaceModel(6, 3, 2, 8)
    agent = MetaMAMLAgent(MetaMAML(model, inner_lr=0.1))
    x, y = torch.randn(4, 9, 3), torch.randn(4, 9, 2)
    before = flat(model)
    expected = agent.maml.adapt_task(x, y, num_steps=3)
    assert agent.adapt(x, y, num_steps=3) == {"steps": 3}
    assert torch.equal(flat(model), before)
    output, _ = agent.maml.functional_forward(x[:, 0], model.init_hidden(4), expected)
    np.testing.assert_allclose(agent.act(x[:, 0]), output.detach().numpy(), atol=1e-6)
    info = agent.update([(x, y, x, y)])
    assert info["loss"] > 0
    assert not torch.equal(flat(model), before)
    assert agent.fast_params() is None


def test_adaptation_agent_adapts_on_data_and_update_makes_it_permanent():
    torch.manual_seed(0)
    model = StateSpaceModel(6, 3, 2, 8)
    agent = AdaptationAgent(Adapter(model, AdaptationConfig(0.05, num_steps=20)))
    x, y, start = torch.randn(4, 3), torch.randn(4, 2), flat(model)
    first = mse_loss(model(x)[0], y).item()
    info = agent.adapt(x, y, model.init_hidden(4))
    assert info["steps"] == 20
    assert info["loss"] < first
    agent.forget()
    assert torch.equal(flat(model), start)
    agent.adapt(x, y)
    learned = flat(model)
    assert agent.update()["drift"] == pytest.approx((learned - start).norm().item(), rel=1e-3)
    agent.forget()
    assert torch.equal(flat(model), learned)


def test_misuse_is_rejected():
    agent = MetaMAMLAgent(MetaMAML(nn.Linear(3, 2)))
    with pytest.raises(ValueError, match="Linear"):
        agent.adapt()
    with pytest.raises(ValueError, match="targets"):
        agent.adapt(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="experience"):
        maml_agent().adapt()


def test_the_coordinator_rejects_duplicate_ids_and_unequal_numbers():
    coordinator = AgentCoordinator()
    coordinator.register_agent(maml_agent(), "a")
    with pytest.raises(ValueError, match="'a'"):
        coordinator.register_agent(maml_agent(), "a")
    with pytest.raises(ValueError, match=r"2 observations .* 1 agents \(a\)"):
        coordinator.run_step_all(np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"'processes'.*sequence, threads"):
        AgentCoordinator("processes")


class Meeting(Agent):
    """Acts only while all the others do."""

    def __init__(self, barrier: threading.Barrier, seconds: float) -> None:
        self._barrier, self._seconds = barrier, seconds

    def act(self, observation):
        self._barrier.wait(timeout=self._seconds)
        return observation

    def observe(self, observation, action, reward, terminated=False, truncated=False):
        pass

    def adapt(self):
        self._barrier.wait(timeout=self._seconds)
        return {}

    def update(self):
        return {}


def test_threads_run_at_the_same_time():
    for mode, seconds in (("threads", 60), ("sequence", 0.1)):
        coordinator, barrier = AgentCoordinator(mode), threading.Barrier(3)
        for agent_id in "abc":
            coordinator.register_agent(Meeting(barrier, seconds), agent_id)
        if mode == "threads":
            assert coordinator.run_step_all([1, 2, 3]) == [1, 2, 3]
            assert coordinator.adapt_all() == {"a": {}, "b": {}, "c": {}}
        else:
            with pytest.raises(threading.BrokenBarrierError) as caught:
                coordinator.run_step_all([1, 2, 3])
            assert caught.value.__notes__ == ["in agent 'a'"]


def play(mode: str, second_policy: str = "ssm", shared: bool = False) -> dict[str, list[float]]:
    coordinator, envs = AgentCoordinator(mode), [point_goal(task) for task in range(4)]
    first = maml_agent("gru", seed=0)
    agents = [
        first,
        MetaMAMLAgent(first.maml, seed=1) if shared else maml_agent(second_policy, seed=1),
        adaptation_agent("lstm", seed=2),
        adaptation_agent("transformer", seed=3),
    ]
    for number, (agent, env) in enumerate(zip(agents, envs, strict=True)):
        env.reset(seed=number)
        coordinator.register_agent(agent, f"agent-{number}")
    return coordinator.run_episodes(envs, num_episodes=3, adapt_between=True)


def test_threads_and_sequence_give_the_same_numbers():
    assert play("threads") == play("sequence")


def test_agents_share_a_module_in_sequence_but_not_between_threads():
    """In sequence they play as with copies of it; in threads they are rejected."""
    assert play("sequence", shared=True) == play("sequence", second_policy="gru")
    with pytest.raises(ValueError, match="'agent-0' and 'agent-1'"):
        play("threads", shared=True)


def test_four_values_say_in_info_that_a_row_was_truncated():
    class Batched:
        """Both rows end in their first step, the second by truncation."""

        def reset(self):
            return np.zeros((2, 2), np.float32)

        def step(self, actions):
            final = np.full((2, 2), 7.0, np.float32)
            info = {"truncated": np.array([False, True]), "final_obs": final}
            return np.ones((2, 2), np.float32), np.ones(2), np.ones(2, bool), info

    ends = []

    coordinator = AgentCoordinator()
    for name in ("first", "second"):
        agent = adaptation_agent()
        agent.observe = lambda obs, action, reward, *end: ends.append((obs[0], *end))
        coordinator.register_agent(agent, name)
    assert coordinator.run_episodes(Batched()) == {"first": [1.0], "second": [1.0]}
    assert ends == [(7.0, True, False), (7.0, False, True)]  # not the next episode's first


@pytest.mark.parametrize("kind", ["gymnasium", "four values"])
def test_one_batched_environment_for_all_agents(kind):
    class Batched:
        """Row 0 earns 1 per step and ends after two steps; row 1 earns 10 and ends after four."""

        def reset(self):
            self._step = 0
            obs = np.zeros((2, 2), np.float32)
            return (obs, {}) if kind == "gymnasium" else obs

        def step(self, actions):
            assert actions.shape == (2, 2)
            self._step += 1
            done = np.array([self._step == 2, self._step == 4])
            obs, rewards = np.full((2, 2), self._step, np.float32), np.array([1.0, 10.0])
            if kind == "gymnasium":
                return obs, rewards, done, np.zeros(2, bool), {}
            return obs, rewards, done, {}

    coordinator = AgentCoordinator()
    coordinator.register_agent(maml_agent("gru"), "maml")
    coordinator.register_agent(adaptation_agent("ssm"), "adapt")
    returns = coordinator.run_episodes(Batched(), num_episodes=2, adapt_between=True)
    assert returns == {"maml": [2.0, 2.0], "adapt": [40.0, 40.0]}
    assert len(coordinator.agents["adapt"].buffer) == 8
    short = coordinator.run_episodes(Batched(), max_steps=3)
    assert short == {"maml": [2.0], "adapt": [30.0]}
