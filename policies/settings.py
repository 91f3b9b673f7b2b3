"""Base of the policies' settings: ranges and choices are declared in annotations, checked here."""

from __future__ import annotations

import operator
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

Size = Annotated[int, Ge(1)]
"""A width, a number of layers, ..."""

COMPARISONS = {
    Ge: ("ge", operator.ge, "at least"),
    Gt: ("gt", operator.gt, "greater than"),
    Le: ("le", operator.le, "at most"),
    Lt: ("lt", operator.lt, "less than"),
}


class PolicySettings:
    """Base of frozen dataclasses with the fields below, whose values must fit their annotations."""

    hidden_dim: Size
    encoder_dim: Size
    num_layers: Size

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            _check(name, getattr(self, name), hint)

    @property
    def hidden_dim_multiple(self) -> int:
        """The number that ``hidden_dim`` must be a multiple of."""
        return 1


def _check(name: str, value: Any, hint: Any) -> None:
    """Raise ValueError if ``value`` is outside the range or the choices of ``hint``."""
    if get_origin(hint) is Literal and value not in get_args(hint):
        choices = ", ".join(map(str, get_args(hint)))
        raise ValueError(f"{name} is {value!r}; choose from: {choices}")
    for bound in getattr(hint, "__metadata__", ()):
        if type(bound) not in COMPARISONS:
            continue
        attribute, holds, words = COMPARISONS[type(bound)]
        limit = getattr(bound, attribute)
        if not holds(value, limit):
            raise ValueError(f"{name} is {value!r}; it must be {words} {limit}. Change {name}")
