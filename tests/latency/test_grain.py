"""Grains are read off times, believed only where they are worth it, and taken over from heavier kernels."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest

from pipeline.latency.grain import Grain, common, find_curve, settle

WIDTHS = range(1, 97)


def stairs(width: int) -> float:
    """Blocks of 16, and a path half as fast, by single channels, off multiples of 4."""
    return 400.0 + 60.0 * width if width % 4 else 100.0 + 30.0 * 16 * -(-width // 16)


def line(width: int) -> float:
    return 200.0 + 25.0 * width


def times(law: Callable[[int], float], widths: Iterable[int] = WIDTHS, noise: float = 0.0, seed: int = 0):
    generator = np.random.default_rng(seed)
    return {width: law(width) * float(generator.uniform(1 - noise, 1 + noise)) for width in widths}


def test_a_width_costs_what_its_block_does_and_off_the_step_what_it_is() -> None:
    grain = Grain(4, 16)
    assert [grain.effective(width) for width in (4, 12, 16, 20, 64)] == [16, 16, 16, 32, 64]
    assert [grain.effective(width) for width in (1, 15, 17)] == [1, 15, 17]
    assert [width for width in range(1, 13) if not grain.off(width)] == [4, 8, 12]
    assert not any(Grain().off(width) for width in range(1, 9))


def test_a_clean_staircase_with_a_slow_path_is_read_whole() -> None:
    curve = find_curve(times(stairs))
    assert curve.grain == Grain(4, 16)
    assert curve.error < 1e-6
    for width in (18, 32, 50, 128, 129):
        assert curve.at(width) == pytest.approx(stairs(width), rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_five_per_cent_of_noise_hide_no_grain(seed: int) -> None:
    curve = find_curve(times(stairs, noise=0.05, seed=seed))
    assert curve.grain == Grain(4, 16)
    for width in WIDTHS:
        assert curve.at(width) == pytest.approx(stairs(width), rel=0.05)


@pytest.mark.parametrize("block", [1, 2, 4, 8, 16, 32])
def test_every_block_is_told_from_the_others(block: int) -> None:
    found = find_curve(times(lambda width: 100.0 + 30.0 * block * -(-width // block), noise=0.01))
    assert found.grain == Grain(1, block)


@pytest.mark.parametrize("seed", range(5))
def test_a_smooth_line_has_no_grain(seed: int) -> None:
    assert find_curve(times(line)).grain == Grain(1, 1)
    assert find_curve(times(line, noise=0.05, seed=seed)).grain == Grain(1, 1)


def test_a_slower_path_on_the_step_is_not_believed() -> None:
    odd = find_curve(times(lambda width: line(width) if width % 4 else 2 * line(width)))
    assert odd.grain.step == 1


def test_a_few_widths_are_enough_where_none_is_off_the_step() -> None:
    curve = find_curve(times(stairs, (16, 32, 48, 64)))
    assert curve.grain.step == 1
    assert curve.at(96) == pytest.approx(stairs(96), rel=1e-6)
    assert find_curve({7: 300.0}).at(7) == pytest.approx(300.0)


def test_no_curve_falls_as_its_width_grows() -> None:
    generator = np.random.default_rng(0)
    curve = find_curve({width: float(generator.uniform(100, 900)) for width in WIDTHS})  # no law at all
    for path in (True, False):
        same = [curve.at(width) for width in WIDTHS if curve.grain.off(width) == path]
        assert same == sorted(same)


def test_a_kernel_that_its_usual_grain_explains_as_well_takes_it() -> None:
    curves = {"heavy": find_curve(times(stairs)), "light": find_curve(times(stairs, noise=0.4, seed=2))}
    assert curves["light"].grain != Grain(4, 16)  # noise made one of its own
    found = settle(curves, {"heavy": 100.0, "light": 1.0})
    assert found["heavy"].grain == found["light"].grain == Grain(4, 16)
    assert found["light"].times == curves["light"].times


def test_a_kernel_keeps_a_grain_of_its_own_where_it_is_worth_it() -> None:
    curves = {"heavy": find_curve(times(stairs)), "smooth": find_curve(times(line))}
    found = settle(curves, {"heavy": 100.0, "smooth": 1.0})
    assert found["smooth"] is curves["smooth"]
    assert found["smooth"].grain == Grain(1, 1)


def test_the_usual_grain_is_not_taken_where_its_fast_path_would_be_the_slow_one() -> None:
    heavy = find_curve(times(lambda width: line(width) * (1.5 if width % 4 else 1.0)))
    odd = find_curve(times(lambda width: line(width) * (1.0 if width % 4 else 1.05)))
    assert heavy.grain.step == 4
    found = settle({"heavy": heavy, "odd": odd}, {"heavy": 100.0, "odd": 1.0})
    assert found["odd"] is odd
    assert odd.grain.step == 1


def test_the_common_grain_has_the_heaviest_block_and_the_widest_step_with_some_weight() -> None:
    assert common([Grain(1, 16), Grain(1, 8), Grain(1, 8)], [3.0, 1.0, 1.0]) == Grain(1, 16)
    assert common([Grain(1, 16), Grain(4, 16)], [8.0, 2.0]) == Grain(4, 16)  # some kernels hide the step
    assert common([Grain(1, 16), Grain(4, 8)], [99.0, 1.0]) == Grain(1, 16)  # one that is hardly there does not tell
    assert common([Grain(1, 2), Grain(8, 8)], [5.0, 4.0]) == Grain(8, 8)  # blocks are made of whole steps
    assert common([], []) == Grain(1, 1)
