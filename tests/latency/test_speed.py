"""How fast the device was, and what a network made of it."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.latency.speed import MOST, Powers, Speed, find_powers, slowdown, usual
from pipeline.latency.table import Sample

GAUGE_NS, STREAM_NS = 1e6, 4e6


def samples_at(gauges: np.ndarray, streams: np.ndarray) -> list[Sample]:
    return [
        Sample({}, {}, {}, 1e7, GAUGE_NS * gauge, STREAM_NS * stream)
        for gauge, stream in zip(gauges.tolist(), streams.tolist(), strict=True)
    ]


def wandering(count: int = 40, gauge: float = 0.1, stream: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(5)
    return np.exp(generator.normal(0, gauge, count)), np.exp(generator.normal(0, stream, count))


def test_both_powers_are_found_each_by_what_it_moves() -> None:
    gauges, streams = wandering()
    noise = np.exp(np.random.default_rng(6).normal(0, 0.01, len(gauges)))
    for true in (Powers(0.6, 0.0), Powers(0.0, 0.3), Powers(0.5, 0.2)):
        misses = 1.07 * gauges**true.gauge * streams**true.stream * noise  # 1.07: the level is another thing
        assert find_powers(samples_at(gauges, streams), misses) == pytest.approx(true, abs=0.05)


def test_a_few_disturbed_samples_turn_neither() -> None:
    gauges, streams = wandering()
    misses = gauges**0.5 * streams**0.2
    misses[np.argmax(streams)] *= 1.6
    misses[np.argmin(gauges)] *= 1.6
    assert find_powers(samples_at(gauges, streams), misses) == pytest.approx(Powers(0.5, 0.2), abs=0.05)


def test_what_stood_still_or_was_not_read_tells_nothing() -> None:
    gauges, streams = wandering(gauge=0.005)
    misses = gauges * streams**0.3
    found = find_powers(samples_at(gauges, streams), misses)
    assert found.gauge == 0
    assert found.stream == pytest.approx(0.3, abs=0.05)
    unread = [*samples_at(gauges, streams)[:-1], Sample({}, {}, {}, 1e7, GAUGE_NS)]
    assert find_powers(unread, misses) == Powers()


def test_powers_are_neither_negative_nor_beyond_all() -> None:
    gauges, streams = wandering()
    assert find_powers(samples_at(gauges, streams), gauges**-0.5 * streams**-0.3) == Powers()
    assert find_powers(samples_at(gauges, streams), gauges**4) == pytest.approx(Powers(MOST, 0.0), abs=0.05)


def test_a_slowdown_is_of_what_was_read_both_times() -> None:
    powers = Powers(0.5, 0.25)
    assert slowdown(Speed(4.0, 16.0), Speed(1.0, 1.0), powers) == pytest.approx(4**1.5 * 2)
    assert slowdown(Speed(4.0, 0.0), Speed(1.0, 1.0), powers) == pytest.approx(4**1.5)
    assert slowdown(Speed(4.0, 16.0), Speed(1.0, 0.0), powers) == pytest.approx(4**1.5)
    assert slowdown(Speed(), Speed(), powers) == 1.0


def test_the_usual_speed_is_that_of_the_samples_that_have_one() -> None:
    samples = samples_at(np.asarray([1.0, 2.0, 3.0]), np.asarray([1.0, 1.0, 5.0]))
    assert usual(samples) == Speed(2 * GAUGE_NS, STREAM_NS)
    assert usual([*samples[1:], replace(samples[0], stream_ns=0.0)]) == Speed(2 * GAUGE_NS, 3 * STREAM_NS)
    assert usual([Sample({}, {}, {}, 1e7)]) == Speed()
