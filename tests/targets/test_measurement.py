"""Sessions in, medians, intervals and verdicts out."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from targets.device import Device
from targets.errors import BadInput
from targets.measurement import Measurement, Session, interquartile_mean, ratio

DEVICE = Device({"cpu": "test", "cores": 2}, {"runtime": "none"}, {"threads": 1}, {"host": "here"})


def measured(medians: "np.ndarray | list[float]", device: Device = DEVICE) -> Measurement:
    return Measurement(tuple(Session((int(median),) * 3, 10) for median in medians), device)


def drawn(rng: np.random.Generator, centre: float, sessions: int = 10) -> Measurement:
    """Sessions that differ from each other by 2 %, as fresh processes do."""
    return measured(centre * np.exp(rng.normal(0, 0.02, sessions)))


def test_the_median_is_over_sessions_not_over_runs() -> None:
    many = Session((100,) * 1000, 10)
    few = Session((400,) * 10, 10)
    assert Measurement((many, few), DEVICE).median_ns == pytest.approx(200)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    missed = sum(not low <= 1e6 <= high for low, high in (drawn(rng, 1e6).interval_ns(0.95) for _ in range(1000)))
    assert 30 <= missed <= 72  # 50 expected, three standard deviations around


def test_a_comparison_of_equals_claims_a_difference_in_one_of_a_hundred() -> None:
    rng = np.random.default_rng(1)
    claims = sum(ratio(drawn(rng, 1e6), drawn(rng, 1e6)).verdict != "inconclusive" for _ in range(1500))
    assert 4 <= claims <= 27  # 15 expected


def test_the_ratio_covers_the_truth_with_unequal_spreads_and_counts() -> None:
    rng = np.random.default_rng(2)
    missed = 0
    for _ in range(1000):
        a = measured(2e6 * np.exp(rng.normal(0, 0.05, 5)))
        b = measured(1e6 * np.exp(rng.normal(0, 0.01, 20)))
        found = ratio(a, b, 0.95)
        missed += not found.low <= 2 <= found.high
    assert 27 <= missed <= 75


@pytest.mark.parametrize(("b", "verdict"), [(0.5e6, "faster"), (2e6, "slower"), (1.001e6, "inconclusive")])
def test_the_verdict_speaks_of_the_second(b: float, verdict: str) -> None:
    rng = np.random.default_rng(3)
    found = ratio(drawn(rng, 1e6), drawn(rng, b))
    assert found.verdict == verdict
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(1e6 / b, rel=0.05)


def test_two_thousand_comparisons_of_equals_claim_at_most_two_in_a_hundred() -> None:
    rng = np.random.default_rng(4)
    claims = sum(ratio(drawn(rng, 1e6), drawn(rng, 1e6)).verdict != "inconclusive" for _ in range(2000))
    assert 6 <= claims <= 40  # 20 expected


def test_a_true_difference_of_five_percent_is_found_in_noise_of_one() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        a, b = (measured(centre * np.exp(rng.normal(0, 0.01, 10))) for centre in (1.05e6, 1e6))
        assert ratio(a, b).verdict == "faster"
        assert ratio(b, a).verdict == "slower"


def test_a_quick_side_makes_the_verdict_quick() -> None:
    full = measured([100.0] * 3)
    quick = Measurement(tuple(Session((50,), 3, protocol="quick") for _ in range(3)), DEVICE)
    assert ratio(full, quick).quick
    assert ratio(quick, full).quick
    assert not ratio(full, full).quick


def test_the_probe_follows_the_share_of_slow_readings_and_forgets_interruptions() -> None:
    quiet = Session((1,), 1, probes_ns=(40,) * 39 + (4_000_000,))
    shared = Session((1,), 1, probes_ns=(40,) * 20 + (72,) * 20)
    taken = Session((1,), 1, probes_ns=(72,) * 40)
    assert quiet.probe_ns == 40
    assert 40 < (shared.probe_ns or 0) < 72
    assert taken.probe_ns == 72
    assert Session((1,), 1).probe_ns is None
    assert Session((1,), 1, probes_ns=(7,)).probe_ns == 7


def test_one_session_claims_nothing() -> None:
    one, two = measured([100.0]), measured([1e6, 1e6])
    assert one.interval_ns() == (0.0, math.inf)
    assert ratio(one, two).verdict == "inconclusive"
    assert ratio(two, one).verdict == "inconclusive"


def test_sessions_without_spread_do_not_divide_by_zero() -> None:
    found = ratio(measured([200.0] * 3), measured([100.0] * 3))
    assert (found.low, found.value, found.high) == pytest.approx((2, 2, 2))
    assert found.verdict == "faster"


def test_the_99th_percentile_needs_662_runs() -> None:
    assert Measurement((Session(tuple(range(1, 662)), 10),), DEVICE).p99_ns is None
    enough = Measurement((Session(tuple(range(1, 663)), 10),), DEVICE)
    assert enough.p99_ns == pytest.approx(np.percentile(range(1, 663), 99))
    assert enough.p90_ns == pytest.approx(np.percentile(range(1, 663), 90))


def test_raw_samples_survive_json() -> None:
    whole = Measurement((Session((3, 1, 2), 10, ("warm",), ("stolen",), "quick", (40, 41)),), DEVICE, ("doubt",), 4)
    assert Measurement.from_dict(json.loads(json.dumps(whole.as_dict()))) == whole


def test_sessions_from_before_the_probe_are_still_read() -> None:
    session = {"samples_ns": [3, 1, 2], "warm_ups": 10}
    old = Measurement.from_dict({"sessions": [session], "device": DEVICE.as_dict(), "doubts": []})
    assert old.sessions[0].probe_ns is None
    assert old.repeats == 0


@pytest.mark.parametrize("part", ["device_class", "regime"])
def test_different_devices_are_compared_only_when_asked_for(part: str) -> None:
    other = Device.from_dict({**DEVICE.as_dict(), part: {"other": True}})
    a, b = measured([100.0] * 3), measured([50.0] * 3, other)
    with pytest.raises(BadInput, match=part):
        ratio(a, b)
    assert ratio(a, b, across_devices=True).verdict == "faster"


def test_a_measurement_of_nothing_is_refused() -> None:
    with pytest.raises(BadInput):
        Measurement((), DEVICE)
    with pytest.raises(BadInput):
        Measurement((Session((), 10),), DEVICE)


@pytest.mark.parametrize("count", [*range(1, 13), 30, 64])
def test_the_interquartile_mean_is_the_trimmed_mean(count: int) -> None:
    samples = np.random.default_rng(count).integers(1_000, 10_000_000, count).tolist()
    assert interquartile_mean(samples) == pytest.approx(float(stats.trim_mean(samples, 0.25)), rel=1e-12)


def test_the_interquartile_mean_sees_below_whole_microseconds_and_past_outliers() -> None:
    samples = [5000] * 8 + [6000] * 9 + [7000] * 2 + [900_000]
    assert 5000 < interquartile_mean(samples) < 7000
    assert interquartile_mean(samples) % 1000 != 0
    assert interquartile_mean([4000]) == 4000
