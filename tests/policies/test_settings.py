"""Settings of the policies: ranges, choices, and widths found from a parameter count."""

import dataclasses
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Lt

import policies
from harness.conformance.policies import make_inputs
from policies.mlp import MLPSettings
from policies.params import num_params
from policies.ssm import SSMSettings
from policies.transformer import TransformerSettings

SIZES = {"obs_dim": 17, "action_dim": 6}


@dataclasses.dataclass(frozen=True)
class Plugin(MLPSettings):
    norm: Literal["rms", "none"] = "rms"
    share: Annotated[float, Ge(0), Lt(1), "any other annotation"] = 0.5


def count(name: str, settings, **options) -> int:
    policy = policies.build(name, **SIZES, **options, settings=settings)
    return num_params(policy.init_params(0))


@pytest.mark.parametrize("name", policies.names())
def test_every_policy_has_the_common_settings_and_refuses_empty_ones(name):
    cls = policies.settings_class(name)
    for field in ("hidden_dim", "encoder_dim", "num_layers"):
        assert getattr(cls(), field) >= 1
        with pytest.raises(ValueError, match=f"{field} is 0"):
            cls(**{field: 0})


@pytest.mark.parametrize("name", policies.names())
def test_every_size_acts_on_the_parameters(name):
    start = policies.settings_class(name)()
    sizes = [f.name for f in dataclasses.fields(start) if type(getattr(start, f.name)) is int]
    for field in set(sizes) - {"context"}:
        larger = dataclasses.replace(start, **{field: 2 * getattr(start, field)})
        assert count(name, larger) != count(name, start), field


@pytest.mark.parametrize(
    ("case", "changed"),
    [
        ("transformer", {"context": 3}),
        ("ssm", {"norm": "layer"}),
        ("ssm", {"norm": "none"}),
        ("ssm", {"residual": False}),
        ("ssm", {"dt_min": 0.4}),
        ("ssm", {"dt_max": 0.02}),
    ],
)
def test_every_other_setting_acts_on_the_outputs(case, changed):
    x, first = make_inputs(resets=0.0)
    outputs = []
    for options in ({}, changed):
        settings = policies.settings_class(case)(**options)
        policy = policies.build(case, obs_dim=5, action_dim=2, settings=settings)
        memory = policy.initial_memory(*x.shape[:2], x)
        outputs.append(policy.forward(policy.init_params(0), x, first, memory).value)
    assert not outputs[0].allclose(outputs[1], atol=1e-4)


@pytest.mark.parametrize(
    ("cls", "wrong"),
    [
        (TransformerSettings, {"num_heads": 3}),
        (TransformerSettings, {"hidden_dim": 62}),
        (TransformerSettings, {"feedforward_ratio": 0.0}),
        (SSMSettings, {"dt_min": 0.6}),
        (SSMSettings, {"dt_min": 0.0}),
        (Plugin, {"norm": "batch"}),
        (Plugin, {"share": 1.0}),
    ],
)
def test_settings_that_cannot_be_built_are_refused_by_name(cls, wrong):
    (field,) = wrong
    with pytest.raises(ValueError, match=f"{field} is .*{next(iter(wrong.values()))}"):
        cls(**wrong)


@pytest.mark.parametrize("name", policies.names())
@pytest.mark.parametrize("wanted", [10_000, 100_000, 1_000_000])
def test_match_params_comes_within_ten_percent(name, wanted):
    settings = policies.match_params(name, wanted, **SIZES)
    assert abs(count(name, settings) - wanted) <= 0.1 * wanted
    assert dataclasses.replace(settings, hidden_dim=policies.settings_class(name)().hidden_dim) == (
        policies.settings_class(name)()
    )


def test_match_params_finds_the_closest_of_all_widths():
    """Including the encoder's own, which needs no projection."""
    start = SSMSettings(encoder_dim=16, num_layers=3)
    counts = {
        width: count("ssm", dataclasses.replace(start, hidden_dim=width), discrete=True)
        for width in range(1, 25)
    }
    for wanted in [*counts.values(), 5_000, 6_000, 7_000]:
        settings = policies.match_params("ssm", wanted, **SIZES, discrete=True, settings=start)
        expected = min(abs(other - wanted) for other in counts.values())
        assert abs(counts[settings.hidden_dim] - wanted) == expected
        assert settings.num_layers == 3


@pytest.mark.parametrize(
    ("wanted", "settings"), [(500, None), (20_000, TransformerSettings(200, num_heads=100))]
)
def test_match_params_refuses_counts_out_of_reach(wanted, settings):
    with pytest.raises(ValueError, match=f"cannot have {wanted} parameters"):
        policies.match_params("transformer", wanted, **SIZES, settings=settings)
