"""Comparison of two implementations of one computation, on any processor.

Library routines such as a norm choose their code by the processor, so two implementations may
differ in the last places of a result, more on one machine than on another. Such comparisons are
made step by step and under the same actions, so that a rounding difference cannot grow into another
trajectory. Comparisons of the same code with itself stay exact.
"""

from __future__ import annotations

import numpy as np

ROUNDING = 1e-14
"""Largest relative difference, absolute below 1: some fifty units in the last place."""


def assert_within_rounding(actual: object, expected: object) -> None:
    """Assert that two results of one step differ by rounding only."""
    np.testing.assert_allclose(actual, expected, rtol=ROUNDING, atol=ROUNDING)
