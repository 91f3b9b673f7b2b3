"""Policies at default and other settings, with inputs, resets and a memory in use."""

import torch

import policies
from policies.base import Memory, Params, PolicyOutput

OBS_DIM, ACTION_DIM = 5, 2
TASKS, BATCH, STEPS = 3, 4, 23
CASES = {
    "ssm": {},
    "ssm-deep": {"hidden_dim": 6, "encoder_dim": 4, "num_layers": 3, "state_dim": 5},
    "ssm-layer-norm": {"hidden_dim": 4, "encoder_dim": 4, "num_layers": 1, "norm": "layer"},
    "ssm-doubling": {"hidden_dim": 4, "num_layers": 2, "scan_method": "doubling"},
    "lstm": {},
    "lstm-deep": {"hidden_dim": 6, "encoder_dim": 4, "num_layers": 3},
    "lstm-wide": {"hidden_dim": 9, "encoder_dim": 2, "num_layers": 2},
    "gru": {},
    "gru-deep": {"hidden_dim": 6, "encoder_dim": 4, "num_layers": 3},
    "gru-wide": {"hidden_dim": 9, "encoder_dim": 2, "num_layers": 2},
    # Contexts shorter than the sequences, so that the window slides.
    "transformer": {"context": 6},
    "transformer-deep": {"hidden_dim": 8, "encoder_dim": 4, "num_layers": 3, "context": 4},
    "transformer-heads": {
        "hidden_dim": 18,
        "encoder_dim": 18,
        "num_layers": 1,
        "num_heads": 3,
        "feedforward_ratio": 2.0,
        "context": 5,
    },
    "mingru": {},
    "mingru-deep": {"hidden_dim": 6, "encoder_dim": 4, "num_layers": 3},
    "mingru-doubling": {"hidden_dim": 4, "num_layers": 2, "scan_method": "doubling"},
    "selective_ssm": {"num_layers": 1, "hidden_dim": 10, "state_dim": 3},
    "selective_ssm-deep": {
        "hidden_dim": 6,
        "encoder_dim": 4,
        "num_layers": 3,
        "num_heads": 2,
        "state_dim": 5,
    },
    "mlp": {},
    "mlp-deep": {"hidden_dim": 6, "encoder_dim": 4, "num_layers": 3},
}
"""Every policy at its defaults and at other settings; a name ends at its first dash."""


def make(case: str, **options):
    name = case.partition("-")[0]
    settings = policies.settings_class(name)(**CASES[case])
    sizes = {"obs_dim": OBS_DIM, "action_dim": ACTION_DIM}
    return policies.build(name, **sizes, settings=settings, **options)


def own_params(policy, tasks: int = TASKS, dtype: torch.dtype = torch.float32) -> Params:
    """Different parameters for every task, with a mean head large enough to see."""
    parts = [policy.init_params(seed) for seed in range(tasks)]
    params = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    params["mean.weight"] = params["mean.weight"] * 50
    generator = torch.Generator().manual_seed(99)
    return {
        name: (value + 0.05 * torch.randn(value.shape, generator=generator)).to(dtype)
        for name, value in params.items()
    }


def make_inputs(dtype: torch.dtype = torch.float32, steps: int = STEPS, resets: float = 0.15):
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(TASKS, BATCH, steps, OBS_DIM, generator=generator).to(dtype)
    first = torch.rand(TASKS, BATCH, steps, generator=generator) < resets
    return x, first


def used_memory(policy, params: Params, dtype: torch.dtype = torch.float32) -> Memory:
    """A memory from the middle of an episode."""
    x, first = make_inputs(dtype, steps=4, resets=0.0)
    memory = policy.initial_memory(TASKS, BATCH, x)
    return tuple(m.detach() for m in policy.forward(params, x + 1, first, memory).memory)


def step_through(policy, params: Params, x, first, memory) -> PolicyOutput:
    action_params, values = [], []
    for t in range(x.shape[2]):
        out = policy.forward(params, x[:, :, t : t + 1], first[:, :, t : t + 1], memory)
        memory = out.memory
        action_params.append(out.action_params)
        values.append(out.value)
    return PolicyOutput(torch.cat(action_params, 2), out.log_std, torch.cat(values, 2), memory)


def close(left, right, atol: float = 1e-5) -> None:
    torch.testing.assert_close(left, right, atol=atol, rtol=0)


def same_output(left: PolicyOutput, right: PolicyOutput, atol: float = 1e-5) -> None:
    close(left.action_params, right.action_params, atol)
    close(left.value, right.value, atol)
    assert len(left.memory) == len(right.memory)
    for a, b in zip(left.memory, right.memory, strict=True):
        close(a, b, atol)
