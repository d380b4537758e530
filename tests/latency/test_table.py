"""The kernel table: what was measured beats what was fitted, and wider is never cheaper than the fit says."""

import itertools

import numpy as np
import pytest

from pipeline.latency.table import KernelTable, Sample, table_from

F = "family"


def law(widths: tuple[int, ...]) -> float:
    return 500 + 3 * widths[0] + 2 * widths[1] + 0.5 * widths[0] * widths[1]


def grid(times: int = 1) -> dict[tuple[int, ...], tuple[float, ...]]:
    return {pair: (law(pair),) * times for pair in itertools.product((8, 16, 32), repeat=2)}


def test_between_measured_widths_the_law_is_found() -> None:
    table = KernelTable({F: grid()})
    for widths in ((24, 24), (12, 20), (8, 24), (40, 40)):
        assert table.cost(F, widths) == pytest.approx(law(widths), rel=1e-3)


def test_what_was_measured_twice_beats_the_fit() -> None:
    seen = grid() | {(16, 16): (9999.0, 9999.0)}
    assert KernelTable({F: seen}).cost(F, (16, 16)) == 9999.0


def test_what_was_measured_once_is_drawn_half_way_to_the_fit() -> None:
    seen = grid() | {(16, 16): (2 * law((16, 16)),)}
    cost = KernelTable({F: seen}).cost(F, (16, 16))
    assert law((16, 16)) < cost < 2 * law((16, 16))


def test_the_median_of_several_measurements_counts() -> None:
    seen = grid() | {(16, 16): (700.0, 710.0, 1e6)}
    assert KernelTable({F: seen}).cost(F, (16, 16)) == 710.0


@pytest.mark.parametrize("seed", range(5))
def test_no_fit_rewards_a_wider_kernel(seed: int) -> None:
    generator = np.random.default_rng(seed)
    seen: dict[tuple[int, ...], tuple[float, ...]] = {
        (int(a), int(b)): (float(generator.uniform(100, 5000)),) for a, b in generator.integers(1, 128, (12, 2))
    }  # no law at all
    table = KernelTable({F: seen})
    unseen = [(w, v) for w in range(3, 140, 7) for v in range(3, 140, 7) if (w, v) not in seen]
    for w, v in unseen:
        for wider in ((w + 7, v), (w, v + 7)):
            if wider not in seen and max(wider) < 140:
                assert table.cost(F, wider) >= table.cost(F, (w, v)) - 1e-9


def test_a_kernel_without_width_costs_what_was_seen_there_or_nothing() -> None:
    table = KernelTable({F: grid() | {(0, 8): (40.0,)}})
    assert table.cost(F, (0, 8)) == 40.0
    assert table.cost(F, (8, 0)) == 0.0


def test_zero_widths_do_not_pull_the_fit_down() -> None:
    with_zeros = KernelTable({F: grid() | {(0, 8): (0.0,), (0, 16): (0.0,)}})
    assert with_zeros.cost(F, (24, 24)) == pytest.approx(law((24, 24)), rel=1e-3)


def test_an_unknown_family_costs_nothing() -> None:
    assert KernelTable({}).cost("stranger", (8, 8)) == 0.0


def test_one_width_alone_is_fitted_too() -> None:
    table = KernelTable({F: {(w,): (100.0 + 4 * w,) for w in (8, 16, 64)}})
    assert table.cost(F, (32,)) == pytest.approx(228.0, rel=1e-3)


def test_overhead_is_taken_off_once_for_each_kernel_and_never_below_nothing() -> None:
    sample = Sample({"g": 4}, {"one": 1000.0, "two": 3000.0, "none": 100.0}, {"one": 1, "two": 2, "none": 1}, 0.0)
    names = ("one", "two", "none")
    table = table_from(
        [sample], {name: name for name in names}, {name: lambda plan: (plan["g"],) for name in names}, 400
    )
    assert table.samples == {"one": {(4,): (600.0,)}, "two": {(4,): (2200.0,)}, "none": {(4,): (0.0,)}}
