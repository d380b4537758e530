"""The kernel table: what was measured often beats what was fitted, each regime has its law, and wider is never cheaper
than the fit says."""

import itertools
import math
from collections.abc import Iterable, Mapping

import numpy as np
import pytest

from pipeline.latency.grain import Grain
from pipeline.latency.table import NARROW, OFF, ON, KernelTable, Sample, regime_of, table_from

F = "family"


def law(widths: tuple[int, ...]) -> float:
    return 500 + 3 * widths[0] + 2 * widths[1] + 0.5 * widths[0] * widths[1]


def grid(times: int = 1) -> dict[tuple[int, ...], tuple[float, ...]]:
    return {pair: (law(pair),) * times for pair in itertools.product((8, 16, 32), repeat=2)}


def test_between_measured_widths_the_law_is_found() -> None:
    table = KernelTable({F: grid()})
    for widths in ((24, 24), (12, 20), (8, 24), (40, 40)):
        assert table.cost(F, widths) == pytest.approx(law(widths), rel=1e-3)


def test_the_more_often_a_width_was_measured_the_less_the_fit_counts() -> None:
    off = [
        KernelTable({F: grid(4) | {(16, 16): (2 * law((16, 16)),) * count}}).cost(F, (16, 16)) / (2 * law((16, 16))) - 1
        for count in (1, 2, 4, 16)
    ]
    assert off == sorted(off)
    assert -0.5 < off[0] < -0.1  # once: drawn toward what the other widths say
    assert off[-1] > -0.03


def test_the_median_of_several_measurements_counts() -> None:
    steady = KernelTable({F: grid(3) | {(16, 16): (700.0, 710.0, 720.0)}}).cost(F, (16, 16))
    disturbed = KernelTable({F: grid(3) | {(16, 16): (700.0, 710.0, 1e6)}}).cost(F, (16, 16))
    assert disturbed == pytest.approx(steady, rel=0.02)


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


GRAINS = (Grain(4, 16), Grain(4, 16))


def regimes_law(widths: tuple[int, ...]) -> float:
    """On the step whole blocks are paid for; off it, on either side, another law holds."""
    on = not any(grain.off(width) for width, grain in zip(widths, GRAINS, strict=True))
    paid = [grain.effective(width) for width, grain in zip(widths, GRAINS, strict=True)]
    if on:
        return 500 + 3 * paid[0] + 2 * paid[1] + 0.5 * paid[0] * paid[1]
    return 3000 + 9 * paid[0] + 1.2 * paid[0] * paid[1]


def seen_at(pairs: Iterable[tuple[int, int]], noise: float = 0.0) -> dict[tuple[int, ...], tuple[float, ...]]:
    generator = np.random.default_rng(0)
    return {pair: (regimes_law(pair) * float(generator.uniform(1 - noise, 1 + noise)),) for pair in pairs}


def drawn(count: int, step: int, seed: int = 0) -> list[tuple[int, int]]:
    generator = np.random.default_rng(seed)
    return [(step * int(a), step * int(b)) for a, b in generator.integers(-(-16 // step), 128 // step + 1, (count, 2))]


@pytest.mark.parametrize(("noise", "within"), [(0.0, 0.03), (0.04, 0.06)])
def test_a_family_is_predicted_on_and_off_its_step(noise: float, within: float) -> None:
    off = [pair for pair in drawn(60, 1) if all(width % 4 for width in pair)]
    table = KernelTable({F: seen_at([*drawn(20, 16), *off], noise)}, {F: GRAINS})
    unseen = [pair for pair in drawn(80, 1, seed=1) if all(width % 4 for width in pair)] + drawn(40, 4, seed=1)
    errors = [abs(table.cost(F, pair) / regimes_law(pair) - 1) for pair in unseen]
    assert max(errors) < within


def test_one_law_for_both_paths_would_miss() -> None:
    off = [pair for pair in drawn(60, 1) if all(width % 4 for width in pair)]
    blind = KernelTable({F: seen_at([*drawn(20, 16), *off])})  # no grains: all widths are alike
    assert max(abs(blind.cost(F, pair) / regimes_law(pair) - 1) for pair in drawn(40, 4, seed=1)) > 0.2


def test_a_regime_that_was_seen_once_follows_the_family() -> None:
    def slower(widths: tuple[int, ...]) -> float:
        return law(tuple(map(GRAINS[0].effective, widths))) * (1.5 if widths[0] % 4 or widths[1] % 4 else 1.0)

    seen = {pair: (slower(pair),) for pair in [*itertools.product((16, 32, 64, 96), repeat=2), (41, 33)]}
    table = KernelTable({F: seen}, {F: GRAINS})
    for pair in ((61, 57), (33, 81), (85, 21)):
        assert table.cost(F, pair) == pytest.approx(slower(pair), rel=0.1)


def test_regimes_are_told_by_the_step_and_the_widest_block() -> None:
    grains = (Grain(1, 8), Grain(4, 16))
    assert regime_of((32, 32), grains) == (ON, ON)
    assert regime_of((33, 33), grains) == (ON, OFF)
    assert regime_of((8, 16), grains) == (NARROW, ON)  # a wide block is not even filled once
    assert regime_of((16, 4), grains) == (ON, NARROW)
    assert regime_of((7,), ()) == ()


@pytest.mark.parametrize("seed", range(5))
def test_no_cost_falls_as_a_width_grows_within_a_regime(seed: int) -> None:
    generator = np.random.default_rng(seed)
    seen: dict[tuple[int, ...], tuple[float, ...]] = {
        (int(a), int(b)): (float(generator.uniform(100, 5000)),) for a, b in generator.integers(1, 128, (30, 2))
    }  # no law at all
    table = KernelTable({F: seen}, {F: GRAINS})
    by_regime: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for pair in itertools.product(range(1, 140, 3), repeat=2):
        if pair not in seen:
            by_regime.setdefault(regime_of(pair, GRAINS), []).append(pair)
    assert len(by_regime) == 9
    for pairs in by_regime.values():
        cost = {pair: table.cost(F, pair) for pair in pairs}
        for narrow, wide in itertools.product(pairs[::7], pairs):
            if narrow[0] <= wide[0] and narrow[1] <= wide[1]:
                assert cost[wide] >= cost[narrow] - 1e-9


def test_spread_is_how_much_times_at_equal_widths_differ() -> None:
    assert KernelTable({F: grid(3)}).spread(F) == 0.0
    assert KernelTable({F: {(8, 8): (90.0, 100.0, 110.0)}}).spread(F) == pytest.approx(0.1)
    assert math.isnan(KernelTable({F: grid()}).spread(F))  # nothing was measured twice


ONE = Sample({"g": 4}, {"one": 1000.0, "two": 3000.0, "none": 100.0}, {"one": 1, "two": 2, "none": 1}, 0.0)
NAMES = ("one", "two", "none")


def table_of(sample: Sample, known: Mapping[str, Mapping[tuple[int, ...], float]]) -> KernelTable:
    return table_from(
        [sample],
        {name: name for name in NAMES},
        {name: lambda plan: (plan["g"],) for name in NAMES},
        lambda sample, site: max(sample.sites_ns[site] - 400 * sample.kernels[site], 0.0),
        {"one": (Grain(1, 16),)},
        known,
    )


def test_sites_of_one_family_share_what_their_kernels_took() -> None:
    table = table_of(ONE, {})
    assert table.samples == {"one": {(4,): (600.0,)}, "two": {(4,): (2200.0,)}, "none": {(4,): (0.0,)}}
    assert table.cost("one", (9,)) == pytest.approx(600.0)  # the same block


def test_what_other_networks_showed_fills_only_widths_that_no_sample_has() -> None:
    table = table_of(ONE, {"one": {(4,): 9999.0, (8,): 1100.0}, "stranger": {(2,): 7.0}})
    assert table.samples["one"] == {(4,): (600.0,), (8,): (1100.0,)}
    assert table.samples["two"] == {(4,): (2200.0,)}
    assert table.cost("stranger", (2,)) == pytest.approx(7.0)
