"""Histograms of a network's tensors."""

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.batches import Batch, Samples
from calibration.histograms import BINS, find_histograms
from targets.errors import BadInput

VALUES = np.random.default_rng(0).standard_normal((70, 3)).astype(np.float32)


class Rows(Samples):
    def __init__(self, values: NDArray[np.float32]) -> None:
        self._values = values

    @property
    def labelled(self) -> bool:
        return False

    def __len__(self) -> int:
        return len(self._values)

    def read(self, indices: NDArray[np.int64]) -> Batch:
        return Batch({"x": self._values[indices]}, None)


def doubled(inputs: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
    return {"x": inputs["x"], "y": 2 * np.asarray(inputs["x"], np.float32)}


def test_every_value_is_counted_once_whatever_the_batch() -> None:
    for size in (1, 32, 1000):
        found = find_histograms(doubled, Rows(VALUES), batch_size=size)
        assert found["x"].counts.sum() == found["y"].counts.sum() == VALUES.size
        assert (found["x"].low, found["x"].high) == (VALUES.min(), VALUES.max())
        assert (found["x"].counts == np.histogram(VALUES.astype(float), BINS, (VALUES.min(), VALUES.max()))[0]).all()


def test_a_tensor_of_one_value_has_a_range_around_it() -> None:
    found = find_histograms(doubled, Rows(np.full((4, 3), 2.0, np.float32)))["x"]
    assert found.low < 2 < found.high


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_value_ends_the_calibration_and_is_named(bad: float) -> None:
    values = VALUES.copy()
    values[40, 1] = bad
    with pytest.raises(BadInput, match=r"tensor 'x' is not finite on samples 32 to 63"):
        find_histograms(doubled, Rows(values))


def test_no_samples_are_refused() -> None:
    with pytest.raises(BadInput, match="no samples"):
        find_histograms(doubled, Rows(VALUES[:0]))


def test_progress_counts_both_passes() -> None:
    seen: list[tuple[int, int]] = []
    find_histograms(doubled, Rows(VALUES), on_progress=lambda done, total, note: seen.append((done, total)))
    assert seen[-1] == (140, 140)
