"""Source of ``demo.ipynb``; convert it with ``python examples/make_notebook.py``."""

# %% [markdown]
# # From meta-training to unseen tasks
#
# A point in the plane is rewarded for being near a goal that it does not observe: it has to find
# out by acting. A policy is meta-trained on 100 goals and then adapted to goals it has never seen,
# by gradient steps on a few episodes. Everything here is `import harness`.
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
from datetime import datetime

import matplotlib.pyplot as plt
import pandas as pd

import harness

NAME = f"demo-{datetime.now():%Y%m%d-%H%M%S}"

# %% [markdown]
# ## A published policy
#
# Policies of the zoo load by name, with normaliser and adaptation inside. One shot is one gradient
# step on ten new episodes in which the policy explores.

# %%
policy = harness.load_pretrained("point_goal/gru/maml")
goals = policy.dist.tasks("test")[:10]


def play(shots: int, goal: int) -> pd.DataFrame:
    """Return the path of the first episode on a goal after some shots."""
    task = goals[goal]
    policy.reset()
    for shot in range(shots):
        seeds = range(10 * shot, 10 * shot + 10)
        policy.adapt(policy.play(task, seeds, query=False))
    episode = policy.play(task, [1])
    return pd.DataFrame(episode.obs[0], columns=["x", "y"])


figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained", sharex=True, sharey=True)
for axis, shots in zip(axes, (0, 1, 5), strict=True):
    for number in range(4):
        path, task = play(shots, number), goals[number]
        axis.plot(path["x"], path["y"], color=f"C{number}")
        axis.plot(task.param("goal_x"), task.param("goal_y"), "*", color=f"C{number}", ms=12)
    axis.set(title=f"shots: {shots}", aspect="equal")
plt.show()

# %% [markdown]
# ## Meta-training
#
# The same from the beginning: 15 iterations of second-order MAML, in this process. The trained
# policy is scored after 0 to 5 shots on ten test goals. The budget is tiny: it shows how a run
# works and is too small to compare policies.

# %%
SCORING = {
    "test_tasks": range(10),
    "few_shot": (1, 2, 3, 4, 5),
    "episodes_per_shot": 8,
    "query_episodes": 3,
    "backend": "local",
}
run = harness.train(
    "point_goal",
    policy="ssm",
    learner={"maml": {"meta_batch_size": 20, "episodes_per_task": 8}},
    meta_iterations=15,
    seed=0,
    name=NAME,
    **SCORING,
)
returns = [f"return_{shots}" for shots in range(6)]
run.table()[["policy", "learner", "adapter", *returns]].round(2)

# %% [markdown]
# ## Standard and hybrid adaptation
#
# In **standard** adaptation each gradient step uses the newest episodes only. In **hybrid**
# adaptation it also uses earlier episodes of the task, with a smaller weight. The same weights are
# scored again with the other adapter, on the same goals with the same seeds: until the first shot
# there are no earlier episodes, and the two are identical.

# %%
again = harness.evaluate(run.policy(), adapter="hybrid", name=f"{NAME}-hybrid", **SCORING)


def by_goal(scored: harness.Run) -> pd.DataFrame:
    """Return the mean return of every goal (rows) after every number of shots (columns)."""
    own = scored.records.query("learner != 'reference'")
    return own.pivot_table("return_", "task", "shots")


standard, hybrid = by_goal(run), by_goal(again)
assert standard[[0, 1]].equals(hybrid[[0, 1]])
difference = hybrid - standard
table = pd.DataFrame(
    {
        "standard": standard.mean(),
        "hybrid": hybrid.mean(),
        "hybrid − standard": difference.mean(),
        "standard error": difference.sem(),
    }
)
table.round(3)

# %% [markdown]
# A difference of less than two standard errors is not seen in this run. With one seed and ten
# goals, it says nothing about other training runs.

# %%
figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
for label, scores in (("standard", standard), ("hybrid", hybrid)):
    axis.plot(scores.mean(), marker="o", label=label)
best = policy.dist.non_adaptive_return(goals)
axis.axhline(best, color="grey", ls="--", label="best without adaptation")
axis.set(xlabel="shots", ylabel="return", title="Mean of ten unseen goals")
axis.legend()
plt.show()

# %% [markdown]
# ## One table
#
# Any runs that were scored alike stand in one table, and so does anybody's agent: a class with one
# method is enough.


# %%
class Still:
    """Does not move."""

    def act(self, obs):  # noqa: ANN001, ANN201
        """Return the action at an observation."""
        return 0.0 * obs


agent = harness.score(Still, "point_goal", label="still", name=f"{NAME}-still", **SCORING)
both = harness.compare([run, again, agent]).frame
both[["policy", "learner", "adapter", *returns]].round(2)
