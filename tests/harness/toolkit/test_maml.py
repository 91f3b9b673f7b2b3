"""MAML on supervised sequences: exact gradients, hidden states, any module."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import mse_loss

from harness.toolkit import MetaMAML
from policies.modules import PolicyModule
from policies.ssm import ImprovedSSM, StateSpaceModel

INPUTS, OUTPUTS = 3, 2

MODELS = {
    "ssm": lambda: StateSpaceModel(6, INPUTS, OUTPUTS, 8),
    "improved": lambda: ImprovedSSM(INPUTS, OUTPUTS, state_dim=4, hidden_dim=8),
    "gru": lambda: PolicyModule("gru", obs_dim=INPUTS, action_dim=OUTPUTS, hidden_dim=6),
    "torch-lstm": lambda: nn.LSTM(INPUTS, OUTPUTS, batch_first=True),
    "mlp": lambda: nn.Sequential(nn.Linear(INPUTS, 8), nn.Tanh(), nn.Linear(8, OUTPUTS)),
}


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name]().double()


def make_tasks(count: int = 3, batch: int = 4, steps: int = 7):
    generator = torch.Generator().manual_seed(1)

    def draw(width):
        return torch.randn(batch, steps, width, generator=generator).double()

    return [(draw(INPUTS), draw(OUTPUTS), draw(INPUTS), draw(OUTPUTS)) for _ in range(count)]


def output(model, params, x, hidden=None):
    result = functional_call(model, params, (x,) if hidden is None else (x, hidden))
    return result[0] if isinstance(result, tuple) else result


def objective(model, params, tasks, inner_lr, inner_steps):
    """Return the mean query loss after plain gradient steps, the function to differentiate."""
    total = 0.0
    for sx, sy, qx, qy in tasks:
        fast = {name: value.detach().requires_grad_() for name, value in params.items()}
        for _ in range(inner_steps):
            gradients = torch.autograd.grad(
                mse_loss(output(model, fast, sx), sy), list(fast.values()), allow_unused=True
            )
            fast = {
                name: value if g is None else (value - inner_lr * g).detach().requires_grad_()
                for (name, value), g in zip(fast.items(), gradients, strict=True)
            }
        total += mse_loss(output(model, fast, qx), qy).item() / len(tasks)
    return total


@pytest.mark.parametrize("inner_steps", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_second_order_gradient_matches_finite_differences(name, inner_steps):
    model, tasks, inner_lr, eps = make(name), make_tasks(), 0.3, 1e-5
    params = {name: value.detach().clone() for name, value in model.named_parameters()}
    loss = MetaMAML(model, inner_lr, inner_steps=inner_steps).meta_update(tasks)
    assert loss == pytest.approx(objective(model, params, tasks, inner_lr, inner_steps))
    generator = torch.Generator().manual_seed(2)
    direction = {
        name: torch.randn(value.shape, generator=generator).double()
        for name, value in params.items()
    }
    up, down = (
        objective(
            model,
            {name: value + sign * eps * direction[name] for name, value in params.items()},
            tasks,
            inner_lr,
            inner_steps,
        )
        for sign in (1, -1)
    )
    slope = sum(
        (p.grad * direction[name]).sum().item()
        for name, p in model.named_parameters()
        if p.grad is not None
    )
    assert slope == pytest.approx((up - down) / (2 * eps), rel=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_first_order_gradient_is_taken_at_the_adapted_parameters(name):
    model, tasks = make(name), make_tasks(1)
    before = copy.deepcopy(model)
    MetaMAML(model, 0.3, first_order=True).meta_update(tasks)
    ((sx, sy, qx, qy),) = tasks
    sgd = torch.optim.SGD(before.parameters(), lr=0.3)
    mse_loss(output(before, {}, sx), sy).backward()
    sgd.step()
    sgd.zero_grad()
    mse_loss(output(before, {}, qx), qy).backward()
    for p, q in zip(model.parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_one_row_of_the_hidden_state_per_sequence():
    """Four tasks of batch one and a hidden state of four rows: task i starts from row i."""
    model, tasks = make("ssm"), make_tasks(4, batch=1)
    hidden = torch.randn(4, 6).double()
    params = {name: value.detach().clone() for name, value in model.named_parameters()}
    loss = MetaMAML(model, 1e-9).meta_update(tasks, hidden)
    each = [
        mse_loss(output(model, params, qx, hidden[i : i + 1]), qy)
        for i, (_, _, qx, qy) in enumerate(tasks)
    ]
    assert loss == pytest.approx(torch.stack(each).mean().item(), rel=1e-6)
    permuted = MetaMAML(make("ssm"), 1e-9).meta_update(tasks, hidden.flip(0))
    assert permuted != pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize(
    ("rows", "batch", "uses"),
    [
        (4, 4, lambda h, i: h),
        (1, 4, lambda h, i: h.expand(4, -1)),
        (12, 4, lambda h, i: h[4 * i : 4 * i + 4]),
        (3, 4, lambda h, i: h[i].expand(4, -1)),
    ],
)
def test_rows_of_the_hidden_state(rows, batch, uses):
    model, tasks = make("ssm"), make_tasks(3, batch)
    hidden = torch.randn(rows, 6).double()
    params = {name: value.detach().clone() for name, value in model.named_parameters()}
    loss = MetaMAML(model, 1e-9).meta_update(tasks, hidden)
    each = [
        mse_loss(output(model, params, qx, uses(hidden, i)), qy)
        for i, (_, _, qx, qy) in enumerate(tasks)
    ]
    assert loss == pytest.approx(torch.stack(each).mean().item(), rel=1e-6)


def test_torch_recurrent_layers_have_their_batch_in_the_second_dimension():
    model, tasks = make("torch-lstm"), make_tasks(3, batch=1)
    hidden = (torch.randn(1, 3, OUTPUTS).double(), torch.randn(1, 3, OUTPUTS).double())
    params = {name: value.detach().clone() for name, value in model.named_parameters()}
    loss = MetaMAML(model, 1e-9).meta_update(tasks, hidden)
    each = [
        mse_loss(
            output(model, params, qx, tuple(part[:, i : i + 1].contiguous() for part in hidden)), qy
        )
        for i, (_, _, qx, qy) in enumerate(tasks)
    ]
    assert loss == pytest.approx(torch.stack(each).mean().item(), rel=1e-6)


def test_a_number_of_rows_that_fits_nothing_is_rejected():
    with pytest.raises(ValueError, match="5 rows"):
        MetaMAML(make("ssm")).meta_update(make_tasks(3, 4), torch.zeros(5, 6).double())


def test_adapting_leaves_the_model_and_its_buffers_unchanged():
    model = nn.Sequential(nn.Linear(INPUTS, 4), nn.BatchNorm1d(4), nn.Linear(4, OUTPUTS))
    before = copy.deepcopy(model.state_dict())
    maml = MetaMAML(model, 0.5)
    x, y = torch.randn(8, INPUTS), torch.randn(8, OUTPUTS)
    fast = maml.adapt_task(x, y, num_steps=20)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    adapted = mse_loss(maml.functional_forward(x, params=fast)[0], y)
    assert adapted < 0.7 * mse_loss(maml.functional_forward(x)[0], y)


def test_a_loss_that_is_not_finite_takes_no_step():
    model, tasks = make("mlp"), make_tasks()
    before = copy.deepcopy(model.state_dict())
    tasks[1][2][0, 0, 0] = float("nan")
    with pytest.raises(FloatingPointError):
        MetaMAML(model).meta_update(tasks)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    with pytest.raises(ValueError, match="task"):
        MetaMAML(model).meta_update([])
    with pytest.raises(FloatingPointError):
        MetaMAML(model).adapt_task(tasks[1][2], tasks[1][3])


def test_adaptation_can_continue_from_an_earlier_one():
    ((x, y, _, _),) = make_tasks(1)
    maml = MetaMAML(make("ssm"), 0.3)

    def loss(params):
        return mse_loss(maml.functional_forward(x, params=params)[0], y)

    continued = maml.minimize(loss, 1, start=maml.minimize(loss, 2))
    for name, value in maml.adapt_task(x, y, num_steps=3).items():
        torch.testing.assert_close(continued[name], value)


def test_it_learns_to_learn():
    """Sequences y = a x with a slope per task: after meta-training, adaptation lowers the loss."""
    torch.manual_seed(0)
    model = StateSpaceModel(8, 1, 1, 16)
    maml = MetaMAML(model, inner_lr=0.1, outer_lr=1e-2)

    def draw(count):
        tasks = []
        for _ in range(count):
            slope = torch.randn(())
            sx, qx = torch.rand(2, 5, 10, 1) * 2 - 1
            tasks.append((sx, slope * sx, qx, slope * qx))
        return tasks

    for _ in range(80):
        maml.meta_update(draw(4))
    before = after = 0.0
    for sx, sy, qx, qy in draw(50):
        fast = maml.adapt_task(sx, sy)
        before += mse_loss(maml.functional_forward(qx)[0], qy).item()
        after += mse_loss(maml.functional_forward(qx, params=fast)[0], qy).item()
    assert after < 0.4 * before
