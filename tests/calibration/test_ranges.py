"""Ranges from histograms."""

from collections.abc import Callable

import numpy as np
import pytest

from calibration.histograms import BINS, Histogram
from calibration.ranges import LEVELS, METHODS, Range, entropy, lost, minmax, mse, percentile


def histogram(values: "np.ndarray", bins: int = BINS) -> Histogram:
    low, high = float(values.min()), float(values.max())
    return Histogram(low, high, np.histogram(values, bins=bins, range=(low, high))[0])


def normal(count: int = 100_000) -> "np.ndarray":
    return np.random.default_rng(0).standard_normal(count)


def error(values: "np.ndarray", found: Range, steps: int = 255) -> float:
    step = (found.high - found.low) / steps
    rounded = np.clip(np.round(values / step) * step, found.low, found.high)
    return float(np.mean((values - rounded) ** 2))


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_zero_is_in_every_range_and_none_is_wider_than_the_values(method: Callable[[Histogram], Range]) -> None:
    for values in (normal(), normal() ** 2, normal() - 10, normal() + 10):
        low, high = method(histogram(values))
        assert low <= 0 <= high
        assert low >= min(values.min(), 0) - 1e-9
        assert high <= max(values.max(), 0) + 1e-9
        assert high > low


def test_min_max_clips_nothing() -> None:
    values = normal()
    assert minmax(histogram(values)) == (values.min(), values.max())


def test_percentile_leaves_out_half_of_the_share_at_each_end() -> None:
    values = np.linspace(-1, 1, 200_001)
    low, high = percentile(histogram(values), kept=0.9)
    assert low == pytest.approx(-0.9, abs=2 / BINS)
    assert high == pytest.approx(0.9, abs=2 / BINS)


def test_one_outlier_moves_min_max_and_not_the_others() -> None:
    values = np.append(normal(), 1000.0)
    found = {name: method(histogram(values, 65_536)) for name, method in METHODS.items() if name != "entropy"}
    assert found["min-max"].high == 1000
    assert found["percentile"].high < 10
    assert found["mse"].high < 1000


def test_mse_finds_the_range_of_least_error() -> None:
    values = np.random.default_rng(1).laplace(size=200_000)
    found = mse(histogram(values))
    assert error(values, found) <= 1.02 * min(
        error(values, Range(values.min() * share, values.max() * share)) for share in np.linspace(0.02, 1, 99)
    )
    assert error(values, found) < error(values, minmax(histogram(values)))


def test_entropy_keeps_what_fills_its_levels_evenly_and_clips_long_tails() -> None:
    uniform = np.linspace(-1, 1, 400_001)
    low, high = entropy(histogram(uniform))
    assert high == pytest.approx(1, abs=0.01)
    assert low == pytest.approx(-1, abs=0.01)
    tailed = np.random.default_rng(2).standard_t(3, 200_000)
    assert entropy(histogram(tailed)).high < 0.5 * np.abs(tailed).max()


def test_zeros_do_not_draw_the_range_in() -> None:
    """Zero is exact in any range, however many values are zero."""
    values = normal()
    rectified = np.maximum(values, 0)
    assert (rectified == 0).mean() > 0.4
    assert entropy(histogram(rectified)).high == pytest.approx(entropy(histogram(values)).high, rel=0.3)
    assert entropy(histogram(rectified)).high > 3


def test_no_information_is_lost_where_there_are_as_many_bins_as_levels() -> None:
    assert lost(np.arange(1.0, LEVELS + 1), LEVELS) == pytest.approx(0, abs=1e-12)


def test_what_is_cut_off_counts_as_lost() -> None:
    counts = np.ones(2 * LEVELS)
    assert lost(counts, LEVELS) > lost(counts, 2 * LEVELS)
