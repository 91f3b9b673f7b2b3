"""Ready adapters: models of Stable-Baselines3, torch modules, Meta-World's own agents."""

import numpy as np
import pytest
import torch

import task_distributions
from harness import agents
from harness.agents import AgentError, AgentSource
from harness.agents.sb3 import SB3Agent, SB3Settings
from harness.agents.torch_module import TorchAgent, TorchSettings
from harness.config.validation import typed
from harness.errors import UsageError
from policies.modules import PolicyModule
from tests.harness.agents.test_playing import DIST, HORIZON, QUERY, SHOTS, SUPPORT, played

CARTPOLE = task_distributions.load("cartpole", horizon=20)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Untrained models with random heads, saved as Stable-Baselines3 saves them."""
    sb3, contrib = pytest.importorskip("stable_baselines3"), pytest.importorskip("sb3_contrib")
    folder = tmp_path_factory.mktemp("sb3")
    env = DIST.make_env(DIST.tasks("train")[0])
    discrete = CARTPOLE.make_env(CARTPOLE.tasks("train")[0])
    torch.manual_seed(0)
    models = {
        "PPO": sb3.PPO("MlpPolicy", env, n_steps=8, batch_size=8, device="cpu"),
        "SAC": sb3.SAC("MlpPolicy", env, buffer_size=8, device="cpu"),
        "DQN": sb3.DQN("MlpPolicy", discrete, buffer_size=8, device="cpu"),
        "RecurrentPPO": contrib.RecurrentPPO("MlpLstmPolicy", env, n_steps=8, device="cpu"),
    }
    for name, model in models.items():
        with torch.no_grad():
            for part in model.policy.parameters():
                part.add_(0.1 * torch.randn_like(part))
        model.num_timesteps = 1234
        model.save(folder / name)
    return folder, models


@pytest.mark.parametrize("name", ["PPO", "SAC", "DQN", "RecurrentPPO"])
def test_a_model_of_stable_baselines3_acts_as_its_predict_does(saved, name):
    folder, models = saved
    source = AgentSource("sb3", SB3Settings(path=folder / f"{name}.zip", algorithm=name))
    dist = CARTPOLE if name == "DQN" else DIST
    outcome = played(source.make, dist)
    query, model = outcome.episodes.query[3], models[name]
    assert outcome.adapter == "none"
    assert outcome.train_env_steps == 1234
    assert outcome.num_params == sum(part.numel() for part in model.policy.parameters())
    state, start = None, np.ones(QUERY, np.bool_)
    for step in range(int(query.lengths.min())):
        actions, state = model.predict(
            query.obs[0, :, step], state=state, episode_start=start, deterministic=True
        )
        start = np.zeros(QUERY, np.bool_)
        if name == "DQN":
            actions = np.eye(2)[actions]
        np.testing.assert_allclose(query.actions[0, :, step], actions, atol=1e-5)
    assert np.ptp(query.actions) > 0.01


def test_what_is_no_saved_model_is_refused(saved):
    folder, _ = saved
    with pytest.raises(UsageError, match="no file"):
        typed(SB3Settings, {"path": str(folder / "missing.zip")}, {})
    found = typed(SB3Settings, {"path": str(folder / "PPO.zip")}, {})
    assert found.path == folder / "PPO.zip"
    for kind, settings in (("sb3", SB3Settings()), ("torch", TorchSettings())):
        with pytest.raises(AgentError, match="path is missing"):
            AgentSource(kind, settings).make()
    with pytest.raises(AgentError, match="'Nothing'"):
        AgentSource("sb3", SB3Settings(path=folder / "PPO.zip", algorithm="Nothing")).make()


class Counting(torch.nn.Module):
    """Counts the steps of an episode in its hidden state."""

    def __init__(self):
        super().__init__()
        self.step = torch.nn.Parameter(torch.tensor([0.1, 0.2]))

    def forward(self, x: torch.Tensor, hidden: torch.Tensor | None = None):
        count = torch.zeros(len(x), 2) if hidden is None else hidden
        return count, count + self.step


def test_a_torchscript_file_acts_with_its_hidden_state(tmp_path):
    with pytest.warns(DeprecationWarning, match="deprecated"):
        torch.jit.script(Counting()).save(str(tmp_path / "counting.pt"))
    settings = TorchSettings(path=tmp_path / "counting.pt", recurrent=True, train_env_steps=5)
    outcome = played(AgentSource("torch", settings).make)
    expected = np.arange(HORIZON)[:, None] * np.float32([0.1, 0.2])
    for shots in SHOTS:
        np.testing.assert_allclose(outcome.episodes.query[shots].actions[0, 1], expected, rtol=1e-6)
    assert (outcome.num_params, outcome.train_env_steps) == (2, 5)


def test_a_module_is_an_agent_as_it_stands():
    layer = torch.nn.Linear(2, 2)
    agent = agents.as_agent(layer)
    assert isinstance(agent, TorchAgent)
    x = np.array([[0.5, -1.0]])
    expected = layer(torch.tensor(x, dtype=torch.float32)).detach().numpy()
    np.testing.assert_allclose(agent.act(x), expected)


def test_a_module_is_scored_in_evaluation_mode_and_left_in_its_own():
    net = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Dropout(0.5), torch.nn.Linear(2, 2))
    agent, x = agents.as_agent(net), np.array([[0.5, -1.0]])
    np.testing.assert_array_equal(agent.act(x), agent.act(x))
    assert net.training
    assert net[0].num_batches_tracked == 0


def test_a_module_of_ours_is_scored_with_its_memory():
    module = PolicyModule("gru", obs_dim=2, action_dim=2)
    agent, x = agents.as_agent(module), np.array([[0.5, -1.0]])
    agent.begin_episodes(1, query=True)
    first, second = agent.act(x), agent.act(x)
    given = torch.tensor(x, dtype=torch.float32)
    mean, *_, memory = module(given)
    np.testing.assert_allclose(first, mean.detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(second, module(given, memory)[0].detach().numpy(), rtol=1e-5)
    assert not np.allclose(first, second)


def test_a_model_is_an_agent_as_it_stands(saved):
    assert isinstance(agents.as_agent(saved[1]["PPO"]), SB3Agent)


def test_what_cannot_act_is_no_agent():
    with pytest.raises(AgentError, match="dict"):
        agents.as_agent({})


class MetaLearner:
    """A ``MetaLearningAgent`` of metaworld.evaluation; notes what it is asked."""

    def __init__(self):
        self.calls, self.gain = [], 0.0

    def init(self):
        self.calls.append("init")

    def reset(self, env_mask):
        assert env_mask.tolist() == [True]
        self.calls.append("reset")

    def eval_action(self, observations):
        assert observations.shape == (1, 2)
        self.calls.append("eval")
        return np.full((1, 2), self.gain)

    def adapt_action(self, observations):
        self.calls.append("act")
        return np.full((1, 2), -self.gain), {"log_prob": np.zeros(1)}

    def step(self, timestep):
        assert timestep.observation.shape == timestep.action.shape == (1, 2)
        assert timestep.reward.shape == timestep.terminated.shape == (1,)
        assert timestep.aux_policy_outputs == {"log_prob": np.zeros(1)}
        self.calls.append("end" if timestep.truncated[0] else "step")

    def adapt(self):
        self.calls.append("adapt")
        self.gain += 0.1


def test_an_agent_of_metaworlds_protocol_is_driven_as_metaworld_drives_it():
    pytest.importorskip("metaworld")
    made = []

    def make():
        made.append(MetaLearner())
        return agents.as_agent(made[-1])

    outcome = played(make)
    assert len(made) == 1
    query = ["reset", *["eval"] * HORIZON] * QUERY
    episode = [*["act", "step"] * (HORIZON - 1), "act", "end"]
    shot = [*episode * SUPPORT, "adapt"]
    assert made[0].calls == ["init", *query, *shot, *query, *shot * 2, *query]
    for shots in SHOTS:
        np.testing.assert_allclose(outcome.episodes.query[shots].actions, 0.1 * shots, rtol=1e-6)
    assert outcome.adapter == "adapt"


@pytest.mark.slow
@pytest.mark.parametrize("split", ["test", "train"])
def test_the_scripted_experts_score_as_they_do_in_metaworld(split):
    """With the goal shown, on one goal of every class of ML10."""
    pytest.importorskip("metaworld")
    import pickle

    from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    from metaworld.policies import ENV_POLICY_MAP
    from metaworld.types import Task as MetaworldTask

    from harness.agents.metaworld import ScriptedExpert

    dist = task_distributions.load("metaworld-ml10", horizon=150)
    successes = []
    for task in dist.tasks(split):
        if not task.name.endswith("/7"):
            continue
        outcome = played(ScriptedExpert, dist, task=task, query=1)
        assert outcome.adapter == "task shown"
        env, policy = ALL_V3_ENVIRONMENTS[task.class_name](), ENV_POLICY_MAP[task.class_name]()
        vector = np.array([value for _, value in task.params])
        content = {"rand_vec": vector, "partially_observable": False, "env_cls": type(env)}
        env.set_task(MetaworldTask(task.class_name, pickle.dumps(content)))
        obs, success, total = env.reset()[0], False, 0.0
        for _ in range(150):
            obs, reward, _, _, info = env.step(np.float64(policy.get_action(obs)))
            total, success = total + reward, success or bool(info["success"])
        found = outcome.episodes.query[0]
        assert found.returns[0, 0] == pytest.approx(total, rel=1e-5)
        assert bool(found.success[0, 0]) == success
        successes.append(success)
    assert len(successes) == {"test": 5, "train": 10}[split]
    assert np.mean(successes) > 0.5
