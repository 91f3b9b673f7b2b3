"""The hand-written passes of the GRU and the LSTM equal their reference equations."""

import pytest
import torch

from policies import gru, lstm
from policies.fused.node import as_node

TASKS, STEPS, BATCH, HIDDEN = 2, 7, 3, 5
SHAPES = {
    gru.GRUCore.recurrence: [(STEPS, BATCH, 15), (HIDDEN, 15), (1, HIDDEN), (BATCH, HIDDEN)],
    lstm.LSTMCore.recurrence: [(STEPS, BATCH, 20), (HIDDEN, 20), (BATCH, HIDDEN), (BATCH, HIDDEN)],
}


@pytest.mark.parametrize("recurrence", SHAPES, ids=["gru", "lstm"])
@pytest.mark.parametrize("resets", [0.0, 0.3, 1.0])
def test_values_and_gradients_equal_the_reference(recurrence, resets):
    options = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
    inputs = [torch.randn(TASKS, *shape, **options) for shape in SHAPES[recurrence]]
    first = torch.rand(TASKS, STEPS, BATCH, **options) < resets
    rows = []
    for function in (recurrence.reference, lambda *parts: as_node(recurrence, *parts)):
        for graph in (False, True):
            leaves = [part.clone().requires_grad_() for part in inputs]
            outputs = function(first, *leaves)
            value = sum(output.sin().square().sum() for output in outputs)
            row = [*outputs, *torch.autograd.grad(value, leaves, create_graph=graph)]
            if graph:
                once = sum(gradient.square().sum() for gradient in row[len(outputs) :])
                row.extend(torch.autograd.grad(once, leaves))
            rows.append(row)
    for expected, computed in zip(rows[:2], rows[2:], strict=True):
        for left, right in zip(expected, computed, strict=True):
            torch.testing.assert_close(right, left)
