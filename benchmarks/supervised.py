"""What a state-space model and MAML on series cost, beside the figures of the seed documents.

    python benchmarks/supervised.py [--rounds 15]

One thread; CPU time of that thread, so that a busy machine disturbs less. Cases take turns, each
a few calls in a row of which the median counts: as in a training loop, which finds memory warm. A
plain module of the same sizes that steps through time by three small networks, as most code does,
runs in the same rounds: the documents' figures come from another hour, its ratios do not.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from tabulate import tabulate
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from harness.toolkit import MetaMAML
from policies.ssm import StateSpaceModel

WIDTH, STATE, HIDDEN = 20, 64, 128
IN_A_ROW = 5
DOCUMENTS = {
    "forward (32, 200, 20)": 13.7,
    "forward + backward": 63.6,
    "meta_update, second order": 435.0,
    "meta_update, first order": 196.0,
}
"""Milliseconds of the documents' code, best of several, one thread."""


class Stepping(nn.Module):
    """x' = f(x) + B u, y = g(x) + D u, with f and g of one hidden layer, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.move = nn.Sequential(nn.Linear(STATE, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, STATE))
        self.enter = nn.Linear(WIDTH, STATE)
        self.read = nn.Sequential(nn.Linear(STATE, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, WIDTH))
        self.through = nn.Linear(WIDTH, WIDTH)

    def init_hidden(self, batch: int = 1) -> Tensor:
        """Return zeros."""
        return torch.zeros(batch, STATE)

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs and the last state."""
        outputs = []
        for u in x.unbind(1):
            hidden = torch.tanh(self.move(hidden) + self.enter(u))
            outputs.append(self.read(hidden) + self.through(u))
        return torch.stack(outputs, 1), hidden


def cases(model: nn.Module) -> dict[str, Callable[[], object]]:
    """Return what is timed, by the documents' names."""
    x, y = torch.randn(2, 32, 200, WIDTH)
    tasks = [tuple(torch.randn(4, 20, 100, WIDTH)) for _ in range(4)]
    hidden, meta_hidden = model.init_hidden(32), model.init_hidden(20)
    # Nearly no outer step: the numbers stay the same however often it runs.
    second, first = (MetaMAML(model, 0.01, 1e-9, first_order=flag) for flag in (False, True))

    def both() -> None:
        model.zero_grad()
        mse_loss(model(x, hidden)[0], y).backward()

    calls: tuple[Callable[[], object], ...] = (
        lambda: model(x, hidden),
        both,
        lambda: second.meta_update(tasks, meta_hidden),
        lambda: first.meta_update(tasks, meta_hidden),
    )
    return dict(zip(DOCUMENTS, calls, strict=True))


def milliseconds(call: Callable[[], object]) -> float:
    """Return the CPU time of one call, the median of several in a row."""
    times = []
    for _ in range(IN_A_ROW):
        began = time.thread_time()
        call()
        times.append(time.thread_time() - began)
    return 1e3 * statistics.median(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)

    torch.manual_seed(0)
    ours, plain = cases(StateSpaceModel(STATE, WIDTH, WIDTH, HIDDEN)), cases(Stepping())
    rows = []
    for name, figure in DOCUMENTS.items():
        pairs = []
        for round_number in range(rounds + 1):
            pair = milliseconds(ours[name]), milliseconds(plain[name])
            if round_number:  # the first one warms up
                pairs.append(pair)
        mine = [pair[0] for pair in pairs]
        median, best = statistics.median(mine), min(mine)
        ratio = statistics.median(b / a for a, b in pairs)
        rows.append((name, median, best, figure, figure / median, figure / best, ratio))
    headers = (
        "",
        "median ms",
        "best ms",
        "documents ms",
        "x (median)",
        "x (best)",
        "x plain module",
    )
    print(tabulate(rows, headers, floatfmt=".1f"))


if __name__ == "__main__":
    main()
