"""State-space models and registered policies as torch modules."""

import pytest
import torch
from torch.distributions import Normal
from torch.func import functional_call

import policies
from policies.modules import PolicyModule
from policies.ssm import ImprovedSSM, StateSpaceModel


def model(seed: int = 0) -> StateSpaceModel:
    torch.manual_seed(seed)
    return StateSpaceModel(state_dim=12, input_dim=5, output_dim=3, hidden_dim=16)


def improved(**options) -> ImprovedSSM:
    torch.manual_seed(0)
    return ImprovedSSM(5, 2, state_dim=8, hidden_dim=16, **options)


def step_through(module, x, hidden):
    outputs = []
    for step in x.unbind(1):
        first, *_, hidden = module(step, hidden)
        outputs.append(first)
    return torch.stack(outputs, 1), hidden


def test_the_model_is_the_linear_state_space_it_says():
    module, x = model(), torch.randn(4, 30, 5)
    state = torch.randn(4, 12)
    output, last = module(x, state)
    a, b, c, d = module.matrices()
    params = module.params()
    for t in range(30):
        u = torch.relu(x[:, t] @ params["encoder.weight"][0] + params["encoder.bias"][0])
        state = state @ a.T + u @ b.T
        y = state @ c.T + x[:, t] @ d.T + params["bias"][0]
        torch.testing.assert_close(output[:, t], y, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last, state, atol=1e-5, rtol=1e-5)
    assert (a.diagonal() < 1).all()
    assert (a.diagonal() > 0).all()


@pytest.mark.parametrize("make", [model, improved, *policies.names()])
def test_a_series_is_its_steps(make):
    module = PolicyModule(make, obs_dim=5, action_dim=2) if isinstance(make, str) else make()
    x = torch.randn(3, 9, 5)
    hidden = module.init_hidden(3)
    output, *_, last = module(x, hidden)
    stepped, after = step_through(module, x, hidden)
    torch.testing.assert_close(output, stepped, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last, after, atol=1e-5, rtol=1e-5)


def test_the_hidden_state_changes_the_output():
    module, x = model(), torch.randn(4, 5)
    output, used = module(x, module.init_hidden(4))
    assert used.shape == (4, 12)
    assert not torch.allclose(module(x, used)[0], output)


@pytest.mark.parametrize("make", [model, improved, "gru", "transformer"])
def test_every_parameter_is_learned_and_saved(make, tmp_path):
    module = PolicyModule(make, obs_dim=5, action_dim=2) if isinstance(make, str) else make()
    x = torch.randn(2, 6, 5)
    sum((part + 1).square().mean() for part in module(x)[:-1]).backward()
    unused = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unused
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += torch.randn_like(parameter)
    module.save(tmp_path / "model.safetensors")
    again = type(module).load(tmp_path / "model.safetensors")
    torch.testing.assert_close(again(x), module(x), atol=0, rtol=0)


def test_another_class_is_refused(tmp_path):
    model().save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="holds 'StateSpaceModel', not 'ImprovedSSM'"):
        ImprovedSSM.load(tmp_path / "model.safetensors")


def test_parameters_can_be_swapped():
    """As MAML does: ``torch.func`` replaces parameters by plain tensors."""
    module, x = model(), torch.randn(2, 6, 5)
    other = {name: value.detach() for name, value in model(1).named_parameters()}
    torch.testing.assert_close(functional_call(module, other, (x,))[0], model(1)(x)[0])


def test_the_seed_determines_the_parameters():
    assert all(
        torch.equal(p, q) for p, q in zip(model().parameters(), model().parameters(), strict=True)
    )
    assert not torch.equal(model(0).params()["B"], model(1).params()["B"])


def test_maps_start_orthogonal():
    params = improved().params()
    for name in ("encoder.weight", "ssm.0.C", "ssm.1.gate.weight"):
        weight = params[name][0]
        rows, columns = weight.shape
        gram = weight @ weight.T if rows <= columns else weight.T @ weight
        eye = torch.eye(len(gram))
        torch.testing.assert_close(gram / gram.diagonal().mean(), eye, atol=1e-5, rtol=0)


@pytest.mark.parametrize("deterministic", [False, True])
def test_log_prob_is_that_of_the_action_given(deterministic):
    module, x = improved(), torch.randn(7, 5)
    with torch.no_grad():
        module.params()["log_std"].copy_(torch.tensor([-0.7, 0.4]))
    memory = module.init_hidden(7)
    action, log_prob, value, _ = module.get_action(x, memory, deterministic)
    mean, log_std, _, _ = module(x, memory)
    gaussian = Normal(mean, log_std.exp())
    torch.testing.assert_close(log_prob, gaussian.log_prob(action).sum(-1))
    again, value_again, entropy = module.evaluate_actions(x, action, memory)
    torch.testing.assert_close(again, log_prob)
    torch.testing.assert_close(value_again, value)
    torch.testing.assert_close(entropy, gaussian.entropy().sum(-1))
    assert torch.equal(action, mean) == deterministic


def test_sampled_actions_have_the_standard_deviation_of_the_policy():
    module = improved()
    with torch.no_grad():
        module.params()["log_std"].copy_(torch.tensor([-0.7, 0.4]))
    actions = module.get_action(torch.zeros(20_000, 5))[0]
    torch.testing.assert_close(actions.std(0).log(), torch.tensor([-0.7, 0.4]), atol=0.03, rtol=0)


def test_layers_have_states_of_their_own_and_resets_clear_them():
    module, x = improved(num_layers=3), torch.randn(2, 6, 5)
    *_, memory = module(x)
    assert [part.shape for part in memory] == [(2, 8)] * 3
    assert not torch.allclose(memory[0], memory[1])
    first = torch.zeros(2, 6, dtype=torch.bool)
    first[:, 3] = True
    reset = module(x, None, first)[0]
    torch.testing.assert_close(reset[:, 3:], module(x[:, 3:])[0])


@pytest.mark.parametrize("flag", ["use_layer_norm", "use_residual"])
def test_flags_act(flag):
    x = torch.randn(2, 6, 5)
    on, off = improved()(x)[0], improved(**{flag: False})(x)[0]
    assert torch.isfinite(off).all()
    assert not torch.allclose(on, off)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"give \(batch, 5\) or \(batch, time, 5\)"):
        model()(torch.randn(4, 6))
    with pytest.raises(ValueError, match="init_hidden"):
        model()(torch.randn(4, 5), torch.zeros(3, 12))
