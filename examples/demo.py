"""Source of ``demo.ipynb``; convert it with ``python examples/make_notebook.py``."""

# %% [markdown]
# # From meta-training to unseen tasks
#
# A state-space policy is meta-trained to find hidden goals in the plane. It is then adapted to
# held-out goals in two ways: **standard** (each gradient step uses the newest episodes only) and
# **hybrid** (each step also uses older episodes, with a smaller weight). Both start from the same
# weights and use the same goals and seeds.
#
# ## Setup
#
# On a new machine, or in Colab, run once:
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
from harness.execution import checkpoint
from harness.meta import objectives
from harness.toolkit import AdaptationConfig, ExperienceBuffer, HybridAdapter, StandardAdapter
from policies.heads import gaussian_log_prob
from policies.modules import PolicyModule
from task_distributions import Task

torch.set_num_threads(1)
NAME = f"demo-{datetime.now():%Y%m%d-%H%M%S}"

# %% [markdown]
# ## Meta-training
#
# This cell calls the command line of the harness: 15 iterations of second-order MAML on 100
# training goals, in this process. The trained policy is scored after 0, 1 and 3 shots on ten test
# goals, and the table is printed; all results are in `results/<name>/`. The budget is tiny: it
# shows how a run works and is too small to compare policies. Use `--preset standard` for that.

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
# Checkpoints are safetensors files with a checksum. The policy becomes an ordinary torch module;
# the observation normalizer stays as it was at the end of training.

# %%
path = max(Path("results", NAME).glob("cells/*.maml.*/checkpoints/*.safetensors"))
setup, trained = checkpoint.load_policy(path)
dist, train = setup.dist, setup.settings
goals = dist.tasks("test")[:10]


def fresh_policy() -> PolicyModule:
    """Return a new module with the meta-trained weights."""
    sizes = {"obs_dim": dist.spec.obs_dim, "action_dim": dist.spec.action_dim}
    module = PolicyModule(setup.cell.policy, **sizes)
    module.load_state_dict(trained.params)
    return module


sum(weight.numel() for weight in fresh_policy().parameters())

# %% [markdown]
# ## Episodes and loss
#
# One shot is a batch of episodes played by the current policy. Both adapters minimize the same
# policy-gradient loss: minus the mean of `weight · log-density · advantage`. For new episodes the
# weight is one, which gives the gradient of MAML's inner loop. For older episodes it is the
# likelihood ratio between the current and the sampling policy, truncated at one (arXiv 1802.01561).


# %%
def play(model: PolicyModule, goal: Task, seeds: list[int], *, sample: bool) -> list[Tensor]:
    """Return inputs, actions, log-densities and rewards, each [episode, time, ...]."""
    env = dist.make_batch([goal], len(seeds))
    obs, memory, steps = env.reset(seeds), model.init_hidden(len(seeds)), []
    for _ in range(dist.spec.horizon):
        x = trained.normalizer(torch.tensor(obs, dtype=torch.float32))
        with torch.no_grad():
            action, log_prob, _, memory = model.get_action(x, memory, deterministic=not sample)
        result = env.step(train.action_scale * action.numpy())
        steps.append((x, action, log_prob, torch.tensor(result.reward, dtype=torch.float32)))
        obs = result.obs
    return [torch.stack(column, dim=1) for column in zip(*steps, strict=True)]


def targets(actions: Tensor, log_probs: Tensor, rewards: Tensor) -> Tensor:
    """Return actions, log-densities and advantages [episode, time, action_dim + 2]."""
    returns = objectives.discounted_returns(rewards, train.gamma)
    advantage = returns - returns.mean(0)  # baseline: the mean over episodes at each step
    advantage = advantage / (advantage.std() + 1e-8)
    return torch.cat([actions, log_probs.unsqueeze(-1), advantage.unsqueeze(-1)], dim=-1)


def loss_of(model: PolicyModule) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the policy-gradient loss of mean actions and the targets above."""

    def loss(mean: Tensor, y: Tensor) -> Tensor:
        actions, old, advantage = y[..., :-2], y[..., -2], y[..., -1]
        new = gaussian_log_prob(actions, mean, model.params()["log_std"].flatten())
        weight = (new - old).detach().exp().clamp(max=1.0)
        return -(weight * new * advantage).mean()

    return loss


# %% [markdown]
# ## Standard and hybrid
#
# The two are identical up to the first shot, when there are no older episodes yet. After that, the
# hybrid loss adds half the loss on eight older episodes from the same goal.

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
    """Return the mean query return and the paths [3, time, 2] after 0 to SHOTS shots."""
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
            x, *steps = play(model, goal, seeds, sample=True)
            y = targets(*steps)
            adapter.update_step(x, y)
            buffer.add(x, y)
    return returns, paths


results = {mode: [adapt(mode, goal) for goal in goals] for mode in ("standard", "hybrid")}
scores = {mode: np.array([returns for returns, _ in each]) for mode, each in results.items()}
assert np.array_equal(scores["standard"][:, :2], scores["hybrid"][:, :2])

# %% [markdown]
# ## Side by side
#
# Mean return over the ten goals, and the difference with a 95 % bootstrap interval over goals. If
# the interval contains zero, this run does not separate the two. With one seed and ten goals, it
# says nothing about other training runs.


# %%
def interval(differences: np.ndarray) -> str:
    """Return the mean of ``differences`` and its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    means = rng.choice(differences, (10_000, len(differences))).mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{differences.mean():+.2f} [{low:+.2f}, {high:+.2f}]"


difference = scores["hybrid"] - scores["standard"]
table = pd.DataFrame(
    {
        "standard": scores["standard"].mean(0).round(2),
        "hybrid": scores["hybrid"].mean(0).round(2),
        "hybrid − standard": [interval(column) for column in difference.T],
        "gain of hybrid over 0 shots": [
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
curve.axhline(
    dist.non_adaptive_return(goals), color="grey", ls="--", label="best without adaptation"
)
curve.set(xlabel="shots", ylabel="return", title="Adaptation, mean of ten goals")
curve.legend(loc="right")
for mode, marker in (("standard", "-"), ("hybrid", "--")):
    for number, goal in enumerate(goals[:4]):
        _, paths = results[mode][number]
        plane.plot(*paths[-1][0].T, marker, color=f"C{number}", label=mode if not number else None)
        plane.plot(goal.param("goal_x"), goal.param("goal_y"), "*", color=f"C{number}", ms=12)
title = f"Paths to four goals (stars) after {SHOTS} shots"
plane.set(title=title, xlabel="x", ylabel="y", aspect="equal")
plane.legend()
display(figure)
plt.close(figure)
