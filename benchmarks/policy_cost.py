"""Cost of a policy: acting, a sequence gradient, and a gradient through an inner step.

One thread and its CPU time, so that the ratios hold on a busy machine too.

    python benchmarks/policy_cost.py [--rounds 5] [--tasks 20] [--episodes 10] [--steps 200]
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from common import interleaved, parser
from tabulate import tabulate
from torch import Tensor

import policies
from policies.base import Memory, Params, Policy
from policies.params import clone, num_params, repeat, select

OBS_DIM, ACTION_DIM = 17, 6
"""HalfCheetah."""


@dataclass(frozen=True)
class Size:
    """The measured work: N tasks of E episodes of T steps, gradients in chunks of tasks."""

    tasks: int
    episodes: int
    steps: int
    chunk: int


def loss_of(policy: Policy, params: Params, x: Tensor, first: Tensor, memory: Memory) -> Tensor:
    """Return a loss that depends on every parameter."""
    out = policy.forward(params, x, first, memory)
    actions, value = out.action_params, out.value
    return (actions.square().sum(-1) + value.square()).mean() + out.log_std.square().sum()


def adapted(params: Params, loss: Tensor, *, create_graph: bool) -> Params:
    """Return the parameters after one inner gradient step."""
    grads = torch.autograd.grad(loss, list(params.values()), create_graph=create_graph)
    return {k: v - 0.1 * g for (k, v), g in zip(params.items(), grads, strict=True)}


class Case:
    """One policy with its inputs; each method is timed."""

    def __init__(self, name: str, size: Size) -> None:
        self.policy = policies.build(name, obs_dim=OBS_DIM, action_dim=ACTION_DIM)
        self.shared = self.policy.init_params(0)
        self.own = clone(repeat(self.shared, size.tasks))
        self.size = size
        shape = (size.tasks, size.episodes, size.steps)
        self.x = torch.randn(*shape, OBS_DIM, generator=torch.Generator().manual_seed(0))
        self.first = torch.zeros(shape, dtype=torch.bool)
        self.first[..., 0] = True
        self.memory = self.policy.initial_memory(size.tasks, size.episodes, self.x)

    def act(self, params: Params) -> None:
        """Take 20 steps in every environment."""
        memory = self.memory
        with torch.inference_mode():
            for t in range(20):
                at = slice(t, t + 1)
                memory = self.policy.forward(
                    params, self.x[:, :, at], self.first[:, :, at], memory
                ).memory

    def gradient(self, order: int) -> None:
        """Differentiate a sequence loss, chunk by chunk of tasks.

        Order 0 is the plain gradient; 1 and 2 pass through a first- or second-order inner step.
        """
        for start in range(0, self.size.tasks, self.size.chunk):
            at = slice(start, start + self.size.chunk)
            data = self.x[at], self.first[at], tuple(part[at] for part in self.memory)
            params = leaves = clone(select(self.own, at), requires_grad=True)
            if order > 0:
                inner = loss_of(self.policy, params, *data)
                params = adapted(params, inner, create_graph=order == 2)
            loss = loss_of(self.policy, params, *data)
            torch.autograd.grad(loss, list(leaves.values()))


def table(names: list[str], size: Size, rounds: int) -> str:
    """Return the table of all policies; ratios are to the last one."""
    cases = {name: Case(name, size) for name in names}
    works: dict[tuple[str, str], Callable[[], None]] = {}
    for name, case in cases.items():
        works[name, "own"] = partial(case.act, case.own)
        works[name, "shared"] = partial(case.act, case.shared)
        for label, order in (("sequence", 0), ("first", 1), ("second", 2)):
            works[name, label] = partial(case.gradient, order)
    taken = {key: statistics.median(v) for key, v in interleaved(works, rounds).items()}
    acted, learned = size.tasks * size.episodes * 20, size.tasks * size.episodes * size.steps
    base, rows = names[-1], []
    for name in names:
        own, shared = (taken[name, kind] / acted * 1e6 for kind in ("own", "shared"))
        costs = [taken[name, kind] * 1e3 for kind in ("sequence", "first", "second")]
        ratios = [taken[name, kind] / taken[base, kind] for kind in ("own", "second")]
        size_of = num_params(cases[name].shared)
        rows.append([name, size_of, own, shared, own / shared, *costs, learned / costs[2], *ratios])
    headers = ["policy", "params", "act own\nus/step", "act shared\nus/step", "own /\nshared"]
    headers += ["sequence\nms", "first order\nms", "second order\nms", "second order\nk steps/s"]
    headers += [f"act /\n{base}", f"second /\n{base}"]
    return tabulate(rows, headers, floatfmt=".4g")


def main() -> None:
    """Measure and print the table."""
    args = parser(__doc__)
    args.add_argument("--policies", nargs="+", default=list(policies.names()))
    args.add_argument("--rounds", type=int, default=5)
    for name, default in (("tasks", 20), ("episodes", 10), ("steps", 200), ("chunk", 5)):
        args.add_argument(f"--{name}", type=int, default=default)
    given = args.parse_args()
    torch.set_num_threads(1)
    size = Size(given.tasks, given.episodes, given.steps, given.chunk)
    print(f"{size}, observation {OBS_DIM}, action {ACTION_DIM}, median of {given.rounds} rounds\n")
    print(table(given.policies, size, given.rounds))


if __name__ == "__main__":
    main()
