"""Test-time adaptation of modules: every setting has an effect and every guard holds."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from harness.toolkit import (
    AdaptationConfig,
    Adapter,
    create_adapter,
)
from policies.ssm import StateSpaceModel


def make_model() -> StateSpaceModel:
    torch.manual_seed(0)
    return StateSpaceModel(state_dim=6, input_dim=3, output_dim=2, hidden_dim=8)


def make_data(batch: int = 4, seed: int = 1):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(batch, 3, generator=generator),
        torch.randn(batch, 2, generator=generator),
        torch.randn(batch, 6, generator=generator),
    )


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def adapted(calls: int = 1, start_seed: int = 1, **settings) -> torch.Tensor:
    """Return the parameters after some calls, by default with large steps and no guard."""
    settings = {"learning_rate": 0.1, "max_grad_norm": None} | settings
    adapter = Adapter(make_model(), AdaptationConfig(**settings))
    for call in range(calls):
        adapter.update_step(*make_data(seed=start_seed + call))
    return flat(adapter.model)


def moved(**settings) -> torch.Tensor:
    return adapted(**settings) - flat(make_model())


def test_a_step_without_guards_is_the_optimizers():
    model, (x, y, hidden) = make_model(), make_data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        last = mse_loss(model(x, hidden)[0], y)
        last.backward()
        optimizer.step()
    config = AdaptationConfig(0.1, 3, optimizer="sgd", max_grad_norm=None)
    adapter = Adapter(make_model(), config)
    loss, steps = adapter.update_step(x, y, hidden)
    assert (loss, steps) == (pytest.approx(last.item()), 3)
    torch.testing.assert_close(flat(adapter.model), flat(model))
    assert not torch.allclose(flat(model), adapted(optimizer="adam", num_steps=3))


def test_every_gradient_step_starts_from_the_given_state():
    """And is detached, so that states can be passed from call to call."""
    model, (x, y, _) = make_model(), make_data()
    adapter = Adapter(model, AdaptationConfig(0.05, 5))
    hidden = model.init_hidden(4)
    losses = []
    for _ in range(20):
        _, following = model(x, hidden)
        loss, _ = adapter.update_step(x, y, hidden)
        losses.append(loss)
        hidden = following
    assert losses[-1] < 0.2 * losses[0]


def test_without_a_hidden_state_the_initial_one_is_used():
    x, y, _ = make_data()
    losses = [
        Adapter(make_model()).update_step(x, y, hidden)[0]
        for hidden in (None, torch.zeros(4, 6), torch.ones(4, 6))
    ]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("model", [nn.Linear(3, 2), nn.LSTM(3, 2, batch_first=True)])
def test_any_differentiable_module_can_be_adapted(model):
    x, y = torch.randn(4, 7, 3), torch.rand(4, 7, 2) * 0.5
    adapter = Adapter(model, AdaptationConfig(0.05, 30))
    first, _ = Adapter(copy.deepcopy(model)).update_step(x, y)
    last, steps = adapter.update_step(x, y)
    assert last < first
    assert steps == 30


def test_learning_rate_is_also_lr():
    torch.testing.assert_close(adapted(learning_rate=0.02), adapted(learning_rate=1e-3, lr=0.02))
    assert moved(learning_rate=0.02).norm() < 0.3 * moved(learning_rate=0.1).norm()
    with pytest.raises(ValueError, match=r"lr is 0\.1 and learning_rate is 0\.2"):
        AdaptationConfig(learning_rate=0.2, lr=0.1)


def test_adapt_every_skips_calls():
    model = make_model()
    adapter = Adapter(model, AdaptationConfig(0.1, adapt_every=3))
    steps, unchanged = [], []
    for _ in range(6):
        before = flat(model)
        loss, taken = adapter.update_step(*make_data())
        assert loss > 0
        steps.append(taken)
        unchanged.append(torch.equal(before, flat(model)))
    assert steps == [1, 0, 0, 1, 0, 0]
    assert unchanged == [False, True, True, False, True, True]


def test_select_limits_the_adapted_parameters():
    model, before = make_model(), make_model()
    Adapter(model, AdaptationConfig(0.1, select=("C", "log_*"))).update_step(*make_data())
    changed = {
        name
        for (name, p), q in zip(model.named_parameters(), before.parameters(), strict=True)
        if not torch.equal(p, q)
    }
    assert changed == {"C", "log_a", "log_dt"}
    with pytest.raises(ValueError, match=r"norm\*.*log_dt"):
        Adapter(model, AdaptationConfig(select=("norm*",)))


def test_guard_gradient_clip():
    """One SGD step has the length of the learning rate times the clipped norm."""
    free = moved(optimizer="sgd")
    held = moved(optimizer="sgd", max_grad_norm=0.01)
    assert free.norm() > 0.1 * 0.02
    torch.testing.assert_close(held.norm().item(), 0.1 * 0.01, rtol=1e-4, atol=0)
    torch.testing.assert_close(held / held.norm(), free / free.norm(), atol=1e-3, rtol=0)


def test_guard_step_per_entry():
    free, held = moved(), moved(max_param_step=0.003)
    assert free.abs().max() > 0.05
    assert held.abs().max() == pytest.approx(0.003, rel=1e-3)
    assert moved(max_param_step=0.003, calls=4).abs().max() <= 0.0121


def test_guard_trust_region():
    assert moved(calls=5).norm() > 1.0
    assert moved(calls=5, trust_radius=0.2).norm() == pytest.approx(0.2, rel=1e-3)


def test_guard_trust_region_around_the_moving_average():
    """A moving anchor lets parameters leave the initial region, but slower than without one."""
    fixed = moved(calls=8, trust_radius=0.2).norm()
    following = moved(calls=8, trust_radius=0.2, ema_decay=0.5).norm()
    assert fixed * 1.1 < following < 8 * 0.2


def test_the_moving_average_can_replace_the_parameters():
    adapter = Adapter(make_model(), AdaptationConfig(0.1, 4, ema_decay=0.9))
    start = flat(adapter.model)
    adapter.update_step(*make_data())
    end = flat(adapter.model)
    with adapter.averaged() as model:
        average = flat(model)
    assert torch.equal(flat(adapter.model), end)
    assert 0 < (average - start).norm() < 0.5 * (end - start).norm()
    fixed = Adapter(make_model(), AdaptationConfig(0.1, 4))
    fixed.update_step(*make_data())
    with fixed.averaged() as model:
        assert torch.equal(flat(model), start)


def test_a_loss_that_is_not_finite_changes_nothing():
    model, (x, y, hidden) = make_model(), make_data()
    adapter = Adapter(model, AdaptationConfig(num_steps=2))
    before = flat(model)
    y[0, 0] = float("nan")
    _, steps = adapter.update_step(x, y, hidden)
    assert (steps, adapter.skipped) == (0, 2)
    assert torch.equal(flat(model), before)
    assert adapter.update_step(*make_data())[1] == 2


def test_context_is_all_or_nothing():
    model = make_model()
    adapter = create_adapter(model, AdaptationConfig(0.1))
    adapter.update_step(*make_data())
    before, copied = flat(model), copy.deepcopy(adapter)

    def adapt_and_fail():
        with torch.no_grad(), adapter.context(model):
            adapter.update_step(*make_data())
            assert not torch.equal(flat(model), before)
            raise KeyError

    with pytest.raises(KeyError):
        adapt_and_fail()
    assert torch.equal(flat(model), before)
    for each in (adapter, copied):  # the optimizer's moments are restored, too
        each.update_step(*make_data(seed=5))
    assert torch.equal(flat(model), flat(copied.model))
    with pytest.raises(ValueError), adapter.context(make_model()):  # noqa: PT011
        pass


def test_reset_restores_the_start():
    adapter = Adapter(make_model(), AdaptationConfig(0.1, 3))
    first = adapter.update_step(*make_data())
    after = flat(adapter.model)
    assert adapter.drift() == pytest.approx((after - flat(make_model())).norm().item(), rel=1e-4)
    adapter.reset()
    assert torch.equal(flat(adapter.model), flat(make_model()))
    assert adapter.update_step(*make_data()) == first
    assert torch.equal(flat(adapter.model), after)


@pytest.mark.parametrize(
    "settings",
    [{"num_steps": 0}, {"lr": -1.0}, {"ema_decay": 1.0}, {"optimizer": "x"}, {"adapt_every": 0}],
)
def test_settings_out_of_range_are_refused(settings):
    (name,) = settings
    with pytest.raises(ValueError, match="learning_rate" if name == "lr" else name):
        AdaptationConfig(**settings)
