"""The cores against torch's own modules and against their definitions."""

import math
from itertools import product

import pytest
import torch

import policies
from policies.attention import attend, attend_one, reach_of
from policies.gru import GRUCore, GRUSettings
from policies.lstm import LSTMCore, LSTMSettings
from policies.mingru import MinGRUCore, MinGRUSettings
from policies.selective_ssm import SelectiveSSMCore, SelectiveSSMSettings

HIDDEN, TASKS, BATCH, STEPS = 12, 3, 4, 17


def modules(kind):
    torch.manual_seed(0)
    return [kind(64, HIDDEN, batch_first=True) for _ in range(TASKS)]


def stacked(parts) -> torch.Tensor:
    return torch.stack([part.detach() for part in parts])


def reordered(weight: torch.Tensor) -> torch.Tensor:
    """Torch's gates i, f, g, o in our order i, f, o, g."""
    i, f, g, o = weight.chunk(4)
    return torch.cat([i, f, o, g])


def run_core(core, params):
    generator = torch.Generator().manual_seed(1)
    u = torch.randn(TASKS, STEPS, BATCH, 64, generator=generator)
    memory = core.initial_memory(TASKS, BATCH, u)
    memory = tuple(torch.randn(part.shape, generator=generator) for part in memory)
    first = torch.zeros(TASKS, STEPS, BATCH, dtype=torch.bool)
    return u, memory, *core.forward(params, u, first, memory)


def test_gru_equals_torch():
    theirs = modules(torch.nn.GRU)
    biases = []
    for module in theirs:
        bias = module.bias_ih_l0.clone()
        bias[: 2 * HIDDEN] += module.bias_hh_l0[: 2 * HIDDEN]
        biases.append(bias.unsqueeze(0))
    params = {
        "gru.0.weight": stacked([m.weight_ih_l0.T for m in theirs]),
        "gru.0.recurrent_weight": stacked([m.weight_hh_l0.T for m in theirs]),
        "gru.0.bias": stacked(biases),
        "gru.0.recurrent_bias": stacked([m.bias_hh_l0[None, 2 * HIDDEN :] for m in theirs]),
    }
    u, memory, out, last = run_core(GRUCore(GRUSettings(hidden_dim=HIDDEN)), params)
    for task, module in enumerate(theirs):
        expected, _ = module(u[task].transpose(0, 1), memory[0][task : task + 1])
        torch.testing.assert_close(out[task].transpose(0, 1), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(last[0][task], expected[:, -1], atol=1e-5, rtol=0)


def test_lstm_equals_torch():
    theirs = modules(torch.nn.LSTM)
    params = {
        "lstm.0.weight": stacked([reordered(m.weight_ih_l0).T for m in theirs]),
        "lstm.0.recurrent_weight": stacked([reordered(m.weight_hh_l0).T for m in theirs]),
        "lstm.0.bias": stacked([reordered(m.bias_ih_l0 + m.bias_hh_l0)[None] for m in theirs]),
    }
    u, memory, out, last = run_core(LSTMCore(LSTMSettings(hidden_dim=HIDDEN)), params)
    for task, module in enumerate(theirs):
        start = tuple(part[task : task + 1] for part in memory)
        expected, (_, c) = module(u[task].transpose(0, 1), start)
        torch.testing.assert_close(out[task].transpose(0, 1), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(last[1][task], c[0], atol=1e-5, rtol=0)


def run_own(core):
    """Run a core at parameters of its own, somewhat changed, one set per task."""
    generator = torch.Generator().manual_seed(2)
    parts = core.init_params(generator)
    shapes = {name: (TASKS, *value.shape[1:]) for name, value in parts.items()}
    noise = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    params = {name: value + 0.3 * noise[name] for name, value in parts.items()}
    return params, *run_core(core, params)


def plain_norm(u):
    return u / u.square().mean().add(1e-6).sqrt()


def test_mingru_equals_its_equations():
    settings = MinGRUSettings(hidden_dim=HIDDEN, encoder_dim=64, num_layers=1)
    params, u, (start,), out, _ = run_own(MinGRUCore(settings))
    for task, b in product(range(TASKS), range(BATCH)):
        own = {name.removeprefix("mingru."): value[task] for name, value in params.items()}

        def affine(name, x, own=own):
            return x @ own[f"{name}.weight"] + own[f"{name}.bias"][0]

        h = start[task, b]
        for t in range(STEPS):
            x = affine("input", u[task, t, b])
            v = plain_norm(x)
            z = torch.sigmoid(affine("0.gate", v))
            h = (1 - z) * h + z * affine("0.candidate", v)
            y = x + affine("0.out", torch.nn.functional.gelu(h, approximate="tanh"))
            torch.testing.assert_close(out[task, t, b], y, atol=1e-4, rtol=1e-4)


def test_selective_ssm_equals_its_equations():
    heads, state = 3, 5
    settings = SelectiveSSMSettings(
        hidden_dim=HIDDEN, encoder_dim=64, num_layers=1, num_heads=heads, state_dim=state
    )
    params, u, (start,), out, _ = run_own(SelectiveSSMCore(settings))
    silu, softplus = torch.nn.functional.silu, torch.nn.functional.softplus
    for task, b in product(range(TASKS), range(BATCH)):
        own = {name.removeprefix("selective."): value[task] for name, value in params.items()}

        def affine(name, x, own=own):
            return x @ own[f"{name}.weight"] + own[f"{name}.bias"][0]

        h = start[task, b].view(HIDDEN, state)
        for t in range(STEPS):
            into = affine("input", u[task, t, b])
            z, x, left, right, d = affine("0.in", plain_norm(into)).split(
                [HIDDEN, HIDDEN, state, state, heads]
            )
            x, left, right, dt = silu(x), silu(left), silu(right), softplus(d)
            a = torch.exp(-dt * own["0.log_a"][0].exp())
            channel = [j * heads // HIDDEN for j in range(HIDDEN)]
            h = torch.stack(
                [a[channel[j]] * h[j] + dt[channel[j]] * left * x[j] for j in range(HIDDEN)]
            )
            y = h @ right + own["0.D"][0] * x
            torch.testing.assert_close(
                out[task, t, b], into + affine("0.out", y * silu(z)), atol=1e-4, rtol=1e-4
            )


def plain_attention(query, past, present, first, age):
    """One query at a time, straight from the definition."""
    sequences, steps, heads, width = query.shape
    context = past.shape[1]
    keys = torch.cat([past, present], dim=1)
    out = torch.zeros_like(query)
    for s in range(sequences):
        reach = int(age[s])
        for t in range(steps):
            reach = 0 if first[s, t] else reach
            seen = keys[s, context + t - min(reach, context) : context + t + 1]
            distance = torch.arange(len(seen) - 1, -1, -1)
            for h in range(heads):
                scores = seen[:, :width] @ query[s, t, h] / math.sqrt(width)
                weights = (scores - 2.0 ** (-8 * (h + 1) / heads) * distance).softmax(0)
                out[s, t, h] = weights @ seen[:, width:]
            reach += 1
    return out


@pytest.mark.parametrize("name", ["mlp", "gru", "lstm", "ssm"])
def test_acting_follows_parameters_that_change_in_place(name):
    policy = policies.build(name, obs_dim=5, action_dim=2)
    params = policy.init_params(0)
    x, first = torch.randn(1, BATCH, 1, 5), torch.zeros(1, BATCH, 1, dtype=torch.bool)
    memory = tuple(torch.ones_like(part) for part in policy.initial_memory(1, BATCH, x))
    for _ in range(2):
        acted = policy.forward(params, x, first, memory)
        leaves = {key: value.clone().requires_grad_() for key, value in params.items()}
        trained = policy.forward(leaves, x, first, memory)
        for part in ("action_params", "value", "memory"):
            both = getattr(acted, part), getattr(trained, part)
            torch.testing.assert_close(*both, atol=1e-5, rtol=0)
        for value in params.values():
            value -= 0.1


@pytest.mark.parametrize("steps", [1, 5, 40, 70])
@pytest.mark.parametrize("context", [1, 7, 33])
@pytest.mark.parametrize("resets", [0.0, 0.2])
def test_attention_equals_its_definition(steps, context, resets):
    generator = torch.Generator().manual_seed(steps + context)
    options = {"generator": generator, "dtype": torch.float64}
    query = torch.randn(3, steps, 2, 4, **options)
    past, present = torch.randn(3, context, 8, **options), torch.randn(3, steps, 8, **options)
    first = torch.rand(3, steps, **options) < resets
    age = torch.tensor([0.0, float(context), float(context // 2)])
    reach = reach_of(first, age, context)
    expected = plain_attention(query, past, present, first, age)
    torch.testing.assert_close(attend(query, past, present, reach), expected)
    if steps == 1:
        window = torch.cat([past, present], dim=1)
        torch.testing.assert_close(attend_one(query[:, 0], window, reach[:, 0]), expected[:, 0])
