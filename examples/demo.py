"""The source of ``demo.ipynb``: ``python examples/make_notebook.py`` turns one into the other."""

# %% [markdown]
# # From meta-training to a task never seen
#
# A state-space policy is meta-trained to find hidden goals in the plane. On held-out goals it is
# then adapted in two ways, **standard** (each gradient step on the newest episodes alone) and
# **hybrid** (on the newest and, with less weight, on older ones), side by side from the same
# weights, on the same goals, with the same seeds.
#
# ## Setup
#
# On a bare machine, or in Colab, once:
#
# ```
# git clone <this repository> && cd metarl-harness
# pip install -c constraints.txt -e ".[test]"
# ```

# %%
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import display
from torch import Tensor

from harness.cli import run
from harness.config.schema import config_from_dict
from harness.execution import checkpoint
from harness.execution.cell_setup import build_setup
from harness.meta import learners
from harness.toolkit import AdaptationConfig, ExperienceBuffer, HybridAdapter, StandardAdapter
from harness.types import Cell
from policies.heads import gaussian_log_prob
from policies.modules import PolicyModule
from task_distributions import Task

torch.set_num_threads(1)
NAME = f"demo-{datetime.now():%Y%m%d-%H%M%S}"

# %% [markdown]
# ## Meta-training
#
# The command line of the harness, called from here: 15 iterations of second-order MAML on 100
# training goals, in this process. It scores what it trained after 0, 1 and 3 shots on ten test
# goals and prints the table; everything lies in `results/<name>/`. The budget is tiny. It is there
# to show the way, not to compare policies by: that is what `--preset standard` is for.

# %%
COMMAND = """
--task-dist point_goal --policy ssm --learner maml --seed 0 --backend local
--epochs 15 --meta-batch-size 20 --episodes-per-task 8
--test-tasks 0 1 2 3 4 5 6 7 8 9 --few-shot 1 3 --episodes-per-shot 8 --query-episodes 3
"""
exit_code = run.main([*COMMAND.split(), "--name", NAME])
assert exit_code == 0

# %% [markdown]
# ## The trained weights
#
# Checkpoints are safetensors with a checksum. The policy becomes an ordinary torch module; the
# scaling of observations that training found stays as it is.

# %%
saved = checkpoint.read(max(Path("results", NAME, "checkpoints").glob("*/*.safetensors")))
setup = build_setup(Cell(**saved.run["cell"]), config_from_dict(saved.run["config"]))
state = learners.build(setup).init()
state.load(saved.tensors, saved.learner)
trained = state.snapshot()
dist, train = setup.dist, setup.settings
goals = dist.tasks("test")[:10]


def fresh_policy() -> PolicyModule:
    """Return the meta-trained policy as a module of its own."""
    sizes = {"obs_dim": dist.spec.obs_dim, "action_dim": dist.spec.action_dim}
    module = PolicyModule(setup.cell.policy, **sizes)
    module.load_state_dict(trained.params)
    return module


sum(weight.numel() for weight in fresh_policy().parameters())

# %% [markdown]
# ## Playing, and what a step descends
#
# One shot is a batch of episodes played by the policy as it is then. Both adapters descend the same
# loss, a policy gradient: minus the mean of `weight · log-density · advantage`. On new episodes the
# weight is one, which makes it the gradient that the inner loop of MAML follows too. An action of
# an older episode weighs less the less likely it has become, and never more than one (truncated
# importance weights, as in arXiv 1802.01561).


# %%
def play(model: PolicyModule, goal: Task, seeds: list[int], *, sample: bool) -> list[Tensor]:
    """Return inputs, actions, their log-densities and rewards [episode, time, ...]."""
    env = dist.make_batch([goal], len(seeds))
    obs, memory, steps = env.reset(seeds), model.init_hidden(len(seeds)), []
    for _ in range(dist.spec.horizon):
        x = trained.normalizer(torch.tensor(obs, dtype=torch.float32))
        with torch.no_grad():
            action, log_prob, _, memory = model.get_action(x, memory, deterministic=not sample)
        moved = env.step(train.action_scale * action.numpy())
        steps.append((x, action, log_prob, torch.tensor(moved.reward, dtype=torch.float32)))
        obs = moved.obs
    return [torch.stack(column, dim=1) for column in zip(*steps, strict=True)]


def targets(actions: Tensor, log_probs: Tensor, rewards: Tensor) -> Tensor:
    """Return what the loss needs of each step [episode, time, action and two more]."""
    to_go = torch.zeros_like(rewards)
    ahead = torch.zeros(len(rewards))
    for t in reversed(range(rewards.shape[1])):
        ahead = to_go[:, t] = rewards[:, t] + train.gamma * ahead
    advantage = to_go - to_go.mean(0)  # the baseline of a step: the mean over the episodes
    advantage = advantage / (advantage.std() + 1e-8)
    return torch.cat([actions, log_probs.unsqueeze(-1), advantage.unsqueeze(-1)], dim=-1)


def loss_of(model: PolicyModule) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the policy-gradient loss of the means ``model`` gives for the targets above."""

    def loss(mean: Tensor, y: Tensor) -> Tensor:
        actions, old, advantage = y[..., :-2], y[..., -2], y[..., -1]
        new = gaussian_log_prob(actions, mean, model.params()["log_std"].flatten())
        weight = (new - old).detach().exp().clamp(max=1.0)
        return -(weight * new * advantage).mean()

    return loss


# %% [markdown]
# ## Standard and hybrid
#
# Up to the first shot the two are the same: there is nothing older to learn from yet. After that,
# hybrid's loss gains half the loss on eight older episodes of the same goal.

# %%
SHOTS, EPISODES = 5, 8
CONFIG = AdaptationConfig(
    learning_rate=train.inner_lr,
    optimizer="sgd",
    max_grad_norm=None,
    experience_batch_size=EPISODES,
    experience_weight=0.5,
)


def adapt(mode: str, goal: Task) -> tuple[list[float], list[Tensor]]:
    """Return the mean query return after 0 to SHOTS shots, and the paths [3, time, 2] walked."""
    torch.manual_seed(goal.index)
    model = fresh_policy()
    buffer = ExperienceBuffer(seed=goal.index)
    if mode == "hybrid":
        adapter = HybridAdapter(model, CONFIG, buffer, loss_fn=loss_of(model))
    else:
        adapter = StandardAdapter(model, CONFIG, loss_fn=loss_of(model))
    returns, paths = [], []
    for shot in range(SHOTS + 1):
        x, _, _, rewards = play(model, goal, [1, 2, 3], sample=False)
        returns.append(rewards.sum(1).mean().item())
        paths.append(x * trained.normalizer.std + trained.normalizer.mean)
        if shot < SHOTS:
            seeds = [1000 * (shot + 1) + episode for episode in range(EPISODES)]
            x, *played = play(model, goal, seeds, sample=True)
            y = targets(*played)
            adapter.update_step(x, y)
            buffer.add(x, y)
    return returns, paths


played = {mode: [adapt(mode, goal) for goal in goals] for mode in ("standard", "hybrid")}
scores = {mode: np.array([returns for returns, _ in each]) for mode, each in played.items()}
assert np.array_equal(scores["standard"][:, :2], scores["hybrid"][:, :2])

# %% [markdown]
# ## Side by side
#
# Mean return over the ten goals, and the difference with a 95 % bootstrap interval over the goals.
# Where the interval covers zero, this run does not tell the two apart. One seed, ten goals: it says
# nothing about other trainings.


# %%
def interval(differences: np.ndarray) -> str:
    """Return the mean of ``differences`` and its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    drawn = rng.choice(differences, (10_000, len(differences))).mean(1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{differences.mean():+.2f} [{low:+.2f}, {high:+.2f}]"


difference = scores["hybrid"] - scores["standard"]
table = pd.DataFrame(
    {
        "standard": scores["standard"].mean(0).round(2),
        "hybrid": scores["hybrid"].mean(0).round(2),
        "hybrid − standard": [interval(column) for column in difference.T],
        "hybrid's gain over 0 shots": [
            interval(column) for column in (scores["hybrid"] - scores["hybrid"][:, :1]).T
        ],
    },
    index=pd.Index(range(SHOTS + 1), name="shots"),
)
display(table)

# %%
figure, (curve, plane) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for mode, values in scores.items():
    curve.plot(values.mean(0), marker="o", label=mode)
curve.axhline(dist.non_adaptive_return(goals), color="grey", ls="--", label="best without adapting")
curve.set(xlabel="shots", ylabel="return", title="Adaptation, mean of ten goals")
curve.legend(loc="right")
for mode, marker in (("standard", "-"), ("hybrid", "--")):
    for number, goal in enumerate(goals[:4]):
        _, paths = played[mode][number]
        plane.plot(*paths[-1][0].T, marker, color=f"C{number}", label=mode if not number else None)
        plane.plot(goal.param("goal_x"), goal.param("goal_y"), "*", color=f"C{number}", ms=12)
title = f"Paths to four goals (stars) after {SHOTS} shots"
plane.set(title=title, xlabel="x", ylabel="y", aspect="equal")
plane.legend()
display(figure)
plt.close(figure)
