"""The policies under comparison: torch only, without ray, gymnasium or the harness."""

from __future__ import annotations

import bisect
import dataclasses
from typing import TYPE_CHECKING, Any, cast

from metarl_plugins import PluginError, Registry, blamed, settings_of

if TYPE_CHECKING:  # names() must answer without the second that importing torch takes
    from collections.abc import Callable

    from policies.base import Policy

__all__ = ["COMPARED", "REGISTRY", "build", "match_params", "names", "settings_class"]

REGISTRY = Registry(
    "policy",
    "metarl_harness.policies",
    {
        "ssm": "policies.ssm:build",
        "lstm": "policies.lstm:build",
        "gru": "policies.gru:build",
        "transformer": "policies.transformer:build",
        "mlp": "policies.mlp:build",
        "mingru": "policies.mingru:build",
        "selective_ssm": "policies.selective_ssm:build",
    },
)
"""Name -> ``module:factory``. A factory takes the keywords of ``build``; the class of its settings
is the annotation of ``settings``."""

COMPARED: tuple[str, ...] = ("ssm", "lstm", "gru", "transformer")
"""The policies compared by default, of equal size within 10 %; mlp is the memoryless control."""

KEYWORDS = ("obs_dim", "action_dim", "discrete", "init_std", "settings")
"""What every factory is called with."""

TOLERANCE = 0.1
"""Largest relative deviation of a matched parameter count."""


def names() -> tuple[str, ...]:
    """Return the registered names, in registry order, then those of installed packages."""
    return REGISTRY.names()


def settings_class(name: str) -> type:
    """Return the settings dataclass of the policy ``name``, read from its factory's annotation.

    Raises:
        ValueError: the name is not registered.
        PluginError: it stands for something that is no factory of policies.
    """
    return settings_of(name, _factory(name), KEYWORDS)


def build(
    name: str,
    *,
    obs_dim: int,
    action_dim: int,
    discrete: bool = False,
    init_std: float = 1.0,
    settings: Any = None,
) -> Policy:
    """Build the policy ``name``.

    Args:
        name: a registered name, that of an entry point, ``module:factory`` or ``file.py:factory``.
        obs_dim: width of the input: the observation and whatever is appended to it, such as the
            previous action and reward.
        action_dim: numbers per action, or discrete actions to choose from.
        discrete: whether an action is a choice of one of ``action_dim``.
        init_std: initial standard deviation of the action; unused for discrete ones.
        settings: an instance of ``settings_class(name)``; None means its defaults.

    Raises:
        ValueError: the name is not registered, or a size is not positive.
        TypeError: ``settings`` belong to another policy.
        PluginError: a factory from outside fails, or returns something else than a ``Policy``.
    """
    factory, expected = _factory(name), settings_class(name)
    settings = expected() if settings is None else settings
    if not isinstance(settings, expected):
        raise TypeError(
            f"policy {name!r} takes {expected.__name__}, not {type(settings).__name__}. "
            "Build them by policies.settings_class(name)(...)"
        )
    values = (obs_dim, action_dim, discrete, init_std, settings)
    keywords = dict(zip(KEYWORDS, values, strict=True))
    if REGISTRY.is_built_in(name):
        return factory(**keywords)
    return _build_plugin(name, factory, keywords)


def match_params(
    name: str,
    count: int,
    *,
    obs_dim: int,
    action_dim: int,
    discrete: bool = False,
    settings: Any = None,
) -> Any:
    """Return ``settings`` with the ``hidden_dim`` whose parameter count is closest to ``count``.

    All other settings stay as they are; None means the defaults.

    Raises:
        ValueError: the name is not registered, or no width comes within 10 % of ``count``.
    """
    import torch

    from policies.params import num_params

    start = settings_class(name)() if settings is None else settings
    sizes: dict[str, Any] = {"obs_dim": obs_dim, "action_dim": action_dim, "discrete": discrete}

    def params_at(width: int) -> int:
        changed = dataclasses.replace(start, hidden_dim=width)
        with torch.device("meta"):  # shapes alone
            return num_params(build(name, **sizes, settings=changed).init_params(0))

    # The count grows with the width, except that one equal to the encoder's saves a projection.
    step, encoder = getattr(start, "hidden_dim_multiple", 1), start.encoder_dim
    widest = step
    while params_at(widest) < count:
        widest *= 2
    widths = range(step, widest + 2 * step, step)
    above = bisect.bisect_left(
        widths, count, key=lambda width: params_at(width + step * (width == encoder))
    )
    near = {*widths[max(0, above - 1) : above + 2], encoder if encoder in widths else step}
    best = min(sorted(near), key=lambda width: abs(params_at(width) - count))
    if abs(params_at(best) - count) > TOLERANCE * count:
        raise ValueError(
            f"policy {name!r} cannot have {count} parameters within {TOLERANCE:.0%}; closest is "
            f"hidden_dim {best} with {params_at(best)}. Change the count or another setting"
        )
    return dataclasses.replace(start, hidden_dim=best)


def _build_plugin(name: str, factory: Callable[..., Policy], keywords: dict[str, Any]) -> Policy:
    from policies.base import Policy

    with blamed(name):
        policy: Any = factory(**keywords)
    if not isinstance(policy, Policy):
        kind = type(policy).__name__
        raise PluginError(f"{name}: returned a {kind}, which is no policies.base.Policy")
    REGISTRY.check_name(name, policy.name)
    return policy


def _factory(name: str) -> Callable[..., Policy]:
    return cast("Callable[..., Policy]", REGISTRY.load(name))
