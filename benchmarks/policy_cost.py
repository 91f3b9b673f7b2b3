"""What a policy costs: acting, a gradient over a sequence, and a gradient through an inner step.

    python benchmarks/policy_cost.py [--rounds 5] [--tasks 20] [--episodes 10] [--steps 200]

One thread, CPU time of that thread, policies interleaved round by round, medians over rounds: the
ratios hold on a busy machine, the absolute numbers orient.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from tabulate import tabulate
from torch import Tensor

import policies
from policies.base import Memory, Params, Policy
from policies.params import clone, num_params, repeat, select

OBS_DIM, ACTION_DIM = 17, 6
"""HalfCheetah."""


@dataclass(frozen=True)
class Size:
    """The work measured: N tasks, E episodes each, T steps, gradients in chunks of tasks."""

    tasks: int
    episodes: int
    steps: int
    chunk: int


def loss_of(policy: Policy, params: Params, x: Tensor, first: Tensor, memory: Memory) -> Tensor:
    """Return a loss that reaches every parameter."""
    out = policy.forward(params, x, first, memory)
    actions, value = out.action_params, out.value
    return (actions.square().sum(-1) + value.square()).mean() + out.log_std.square().sum()


def adapted(params: Params, loss: Tensor, *, create_graph: bool) -> Params:
    """Return the parameters after one inner gradient step."""
    grads = torch.autograd.grad(loss, list(params.values()), create_graph=create_graph)
    return {k: v - 0.1 * g for (k, v), g in zip(params.items(), grads, strict=True)}


class Case:
    """One policy with its inputs; each method is one thing to time."""

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

        Order 0 is the plain gradient; 1 and 2 go through an inner step in first or second order.
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


def measure(rounds: int, works: dict[tuple[str, str], Callable[[], None]]) -> dict:
    """Return the median CPU seconds of every work, all of them once per round."""
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in works}
    for turn in range(rounds + 1):
        for key, work in works.items():
            start = time.thread_time()
            work()
            if turn > 0:
                taken[key].append(time.thread_time() - start)
    return {key: statistics.median(values) for key, values in taken.items()}


def table(names: list[str], size: Size, rounds: int) -> str:
    """Return the table of all policies."""
    cases = {name: Case(name, size) for name in names}
    works: dict[tuple[str, str], Callable[[], None]] = {}
    for name, case in cases.items():
        works[name, "own"] = partial(case.act, case.own)
        works[name, "shared"] = partial(case.act, case.shared)
        for label, order in (("sequence", 0), ("first", 1), ("second", 2)):
            works[name, label] = partial(case.gradient, order)
    taken = measure(rounds, works)
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
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policies", nargs="+", default=list(policies.names()))
    parser.add_argument("--rounds", type=int, default=5)
    for name, default in (("tasks", 20), ("episodes", 10), ("steps", 200), ("chunk", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    size = Size(args.tasks, args.episodes, args.steps, args.chunk)
    print(f"{size}, observation {OBS_DIM}, action {ACTION_DIM}, median of {args.rounds} rounds\n")
    print(table(args.policies, size, args.rounds))


if __name__ == "__main__":
    main()
