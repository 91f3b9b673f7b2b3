"""The hand-written passes of recurrent layers equal their reference equations."""

import pytest
import torch

from policies import gru, lstm, ssm
from policies.fused.node import as_node

TASKS, STEPS, BATCH, HIDDEN, STATE = 2, 7, 30, 5, 4
"""More rows than the passes of the ssm take at once."""
U, H = (STEPS, BATCH, HIDDEN), (BATCH, HIDDEN)
POLE, IN, OUT, GATE = (1, STATE), (HIDDEN, STATE), (STATE, HIDDEN), (HIDDEN, HIDDEN)
SPACE = [U, (BATCH, STATE), POLE, POLE, IN, OUT, (1, HIDDEN), GATE, (1, HIDDEN)]
VARIANTS = {"ssm": {}, "ssm-layer-norm": {"norm": "layer"}, "ssm-plain": {"norm": "none"}}
CASES = {
    "gru": (gru.GRUCore.recurrence, [(STEPS, BATCH, 15), (HIDDEN, 15), (1, HIDDEN), H]),
    "lstm": (lstm.LSTMCore.recurrence, [(STEPS, BATCH, 20), (HIDDEN, 20), H, H]),
}
for name, variant in VARIANTS.items():
    settings = ssm.SSMSettings(residual=name != "ssm-plain", **variant)
    CASES[name] = ssm.SSMCore(settings).recurrence, SPACE


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("resets", [0.0, 0.3, 1.0])
def test_values_and_gradients_equal_the_reference(case, resets):
    recurrence, shapes = CASES[case]
    options = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
    inputs = [torch.randn(TASKS, *shape, **options) for shape in shapes]
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
