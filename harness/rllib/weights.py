"""Conversion between the weights of RLlib's default LSTM model and those of our ``lstm``.

Without its shortcut, our ``lstm`` is RLlib's network, whose tokenizer, LSTM and heads are our
encoder, core and heads.
torch orders the gates i, f, g, o and adds two biases; ours are i, f, o, g with one bias. The
conversion is exact in both directions, but for the shortcut.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from policies.base import Params

NETWORK = "lstm"
"""Our policy that equals RLlib's default recurrent module, but for its shortcut."""
Weights = Mapping[str, np.ndarray]
"""State of an RLlib module by name, as returned by ``Algorithm.get_weights``."""

LSTM = "encoder.encoder.lstm"
LINEAR = {
    "encoder": "encoder.encoder.tokenizer.net.mlp.0",
    "mean": "pi.head.net.mlp.0",
    "value": "vf.net.mlp.0",
}
"""Our linear layers and RLlib's names for them."""
LOG_STD = "pi.head.log_std"


def from_rllib(weights: Weights) -> Params:
    """Return RLlib's weights as parameters of our ``lstm``, with a leading axis of 1."""

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(np.array(weights[name], np.float32))

    params: Params = {}
    for ours, theirs in LINEAR.items():
        params[f"{ours}.weight"] = tensor(f"{theirs}.weight").T.contiguous()[None]
        params[f"{ours}.bias"] = tensor(f"{theirs}.bias")[None, None]
    bias = tensor(f"{LSTM}.bias_ih_l0") + tensor(f"{LSTM}.bias_hh_l0")
    params["lstm.0.weight"] = _swap_gates(tensor(f"{LSTM}.weight_ih_l0")).T.contiguous()[None]
    params["lstm.0.recurrent_weight"] = _swap_gates(tensor(f"{LSTM}.weight_hh_l0")).T.contiguous()[
        None
    ]
    params["lstm.0.bias"] = _swap_gates(bias)[None, None]
    params["log_std"] = tensor(LOG_STD)[None, None, None]
    return params


def to_rllib(params: Params) -> dict[str, np.ndarray]:
    """Return parameters of our ``lstm`` as RLlib's weights, with a second bias of zero."""
    weights: dict[str, Tensor] = {}
    for ours, theirs in LINEAR.items():
        weights[f"{theirs}.weight"] = params[f"{ours}.weight"][0].T
        weights[f"{theirs}.bias"] = params[f"{ours}.bias"][0, 0]
    bias = _swap_gates(params["lstm.0.bias"][0, 0])
    weights[f"{LSTM}.weight_ih_l0"] = _swap_gates(params["lstm.0.weight"][0].T)
    weights[f"{LSTM}.weight_hh_l0"] = _swap_gates(params["lstm.0.recurrent_weight"][0].T)
    weights[f"{LSTM}.bias_ih_l0"], weights[f"{LSTM}.bias_hh_l0"] = bias, torch.zeros_like(bias)
    weights[LOG_STD] = params["log_std"][0, 0, 0]
    return {name: value.detach().numpy().copy() for name, value in weights.items()}


def _swap_gates(gates: Tensor) -> Tensor:
    """Return the four stacked gates with the last two exchanged."""
    i, f, third, fourth = gates.chunk(4)
    return torch.cat([i, f, fourth, third])
