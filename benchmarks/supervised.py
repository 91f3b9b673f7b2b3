"""Cost of a state-space model and of MAML on series, compared with the seed documents' figures.

One thread and its CPU time. Each case runs a few times in a row, as in a training loop, where
memory is warm. A plain module of the same sizes that steps through time runs in the same rounds:
unlike the documents' figures, which were measured elsewhere, its ratios are comparable.

    python benchmarks/supervised.py [--rounds 15]
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from common import interleaved, parser
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
    """Return the timed calls by the documents' names."""
    x, y = torch.randn(2, 32, 200, WIDTH)
    tasks = [tuple(torch.randn(4, 20, 100, WIDTH)) for _ in range(4)]
    hidden, meta_hidden = model.init_hidden(32), model.init_hidden(20)
    # The outer step is tiny, so that the work stays the same however often it runs.
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


def main() -> None:
    """Measure and print the table."""
    args = parser(__doc__)
    args.add_argument("--rounds", type=int, default=15)
    rounds = args.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ours, plain = cases(StateSpaceModel(STATE, WIDTH, WIDTH, HIDDEN)), cases(Stepping())
    works = {
        (name, label): calls[name]
        for name in DOCUMENTS
        for label, calls in (("ours", ours), ("plain", plain))
    }
    seconds = interleaved(works, rounds, repeats=IN_A_ROW)
    rows = []
    for name, figure in DOCUMENTS.items():
        mine, theirs = seconds[name, "ours"], seconds[name, "plain"]
        median, best = 1e3 * statistics.median(mine), 1e3 * min(mine)
        ratio = statistics.median(b / a for a, b in zip(mine, theirs, strict=True))
        rows.append((name, median, best, figure, figure / median, figure / best, ratio))
    headers = ["", "median ms", "best ms", "documents ms", "x (median)", "x (best)"]
    print(tabulate(rows, [*headers, "x plain module"], floatfmt=".1f"))


if __name__ == "__main__":
    main()
