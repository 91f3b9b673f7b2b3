import pytest

from harness.reporting.text import DASH, duration, printable, short_count, span


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (950, "950"),
        (999.6, "1.00k"),
        (12_500, "12.5k"),
        (123_456, "123k"),
        (999_960, "1.00M"),
        (3_200_000, "3.20M"),
        (2.5e9, "2.50G"),
        (-1500, "-1.50k"),
        (None, DASH),
        (float("nan"), DASH),
        (float("inf"), DASH),
    ],
)
def test_counts_have_three_digits(value, text):
    assert short_count(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(42.2, "42 s"), (750, "12.5 min"), (11_520, "3.2 h"), (None, DASH), (float("inf"), DASH)],
)
def test_durations_have_one_unit(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("counts", "text"), [([1, 1], "1 seed"), ([3.0], "3 seeds"), ([4, 1, 2], "1 to 4 seeds")]
)
def test_counts_that_differ_are_a_range(counts, text):
    assert span(counts, "seed") == text


def test_printable_text_is_one_line_without_control_characters():
    assert printable("a\n\x1b[31mb\u202ec") == "a  [31mb c"
