"""Policies at default and other settings, as the tests of policies play them."""

import policies
from harness.conformance.policies import ACTION_DIM, OBS_DIM

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
    "selective_ssm": {"num_layers": 1, "hidden_dim": 10},
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
