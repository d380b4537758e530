"""Numbers as the report prints them."""

import math
from typing import Any

import pytest

from pipeline.report.text import count, duration, factor, interval, number, points, share, short, size, words


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.14159, "3.14"), (0.00123456, "0.00123"), (1234.5, "1234"), (7, "7"), (123456, "123456"), (0.0, "0"),
     (-2.5, "−2.50"), (None, "–"), (math.nan, "–"), (math.inf, "–"), ("x", "–"), (True, "–")],
)  # fmt: skip
def test_numbers_keep_three_digits_and_never_an_exponent(value: Any, text: str) -> None:
    assert number(value) == text


def test_units_scale_with_the_number() -> None:
    assert [count(n) for n in (999, 41_215_360, 4.1e9)] == ["999", "41.2 M", "4.10 G"]
    assert [size(n) for n in (100, 493_112, 5 * 2**20)] == ["100 bytes", "482 KiB", "5.00 MiB"]
    assert [duration(s) for s in (0.812, 760.0, 7322.0)] == ["0.81 s", "12 min 40 s", "2 h 02 min"]


def test_changes_carry_their_sign() -> None:
    assert [points(p) for p in (0.5, -1.12, 0.0)] == ["+0.50 points", "−1.12 points", "±0.00 points"]


def test_unknown_ends_make_no_interval() -> None:
    assert interval(1.0, None) == "–"
    assert interval(2.016, 2.084, 3) == "2.02 to 2.08"


def test_words_flatten_what_is_nested() -> None:
    assert words({"a": [1, 2], "b": None, "c": True, "d": 0.5}) == "a: 1, 2, b: –, c: yes, d: 0.5"
    assert (factor(2.0468), share(0.018)) == ("2.05×", "1.8 %")


def test_exporters_tail_is_dropped_from_tensor_names() -> None:
    assert [short(n) for n in ("/a/Conv_output_0", "_output_0", "conv2d_3")] == ["/a/Conv", "_output_0", "conv2d_3"]
