"""Unbind and stack over time are inverse to each other and each the gradient of the other."""

import torch

from policies.timeline import stack, unbind


def test_round_trip_in_three_orders_of_derivative():
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.equal(stack(unbind(x)), x)

    def run(x):
        steps = unbind(x.sin())
        return stack([a * b for a, b in zip(steps, steps[::-1], strict=True)])

    assert torch.autograd.gradcheck(run, x)
    assert torch.autograd.gradgradcheck(run, x)


def test_second_order_cost_grows_with_the_length_not_its_square():
    """Counts values written, not seconds, which would vary with the load of the machine."""

    def filled(steps: int) -> int:
        x = torch.randn(1, steps, 2, 4, requires_grad=True)
        loss = stack([step.sin() for step in unbind(x)]).square().sum()
        (grad,) = torch.autograd.grad(loss, x, create_graph=True)
        with torch.profiler.profile(record_shapes=True) as profile:
            torch.autograd.grad(grad.square().sum(), x)
        writes = {"aten::fill_", "aten::copy_", "aten::add_"}
        sizes = [
            torch.Size(event.input_shapes[0]).numel()
            for event in profile.events()
            if event.name in writes and event.input_shapes[0]
        ]
        return sum(sizes)

    assert filled(128) < 3 * filled(64)
