"""From kernels to the whole, on kernels whose law is known."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from pipeline.latency.heldout import held_out, spread_of
from pipeline.latency.predict import LatencyModel, Spread, fit
from pipeline.latency.samples import Known
from pipeline.latency.speed import Powers, Speed
from pipeline.latency.table import Sample, family_key
from tests.latency.networks import GROUPS, SITE_WIDTHS, lawful_sample, lawful_sites, true_ns

CANDIDATES = (8, 16, 32, 48, 64)


def plans(count: int, seed: int = 0) -> list[dict[str, int]]:
    generator = np.random.default_rng(seed)
    return [dict(GROUPS), *({g: int(generator.choice(CANDIDATES)) for g in GROUPS} for _ in range(count - 1))]


@pytest.mark.parametrize(
    ("overhead_ns", "scale", "offset_ns"), [(0, 1, 0), (800, 1, 0), (1500, 1.1, 0), (500, 1, 3000)]
)
def test_plans_that_were_not_seen_are_predicted(overhead_ns: float, scale: float, offset_ns: float) -> None:
    samples = [lawful_sample(plan, overhead_ns, scale, offset_ns) for plan in plans(24)]
    model = fit(lawful_sites(), samples)
    for plan in ({"a": 24, "b": 40}, {"a": 56, "b": 12}, {"a": 40, "b": 40}):
        assert model.predict_ns(plan) == pytest.approx(lawful_sample(plan, 0, scale, offset_ns).end_to_end_ns, rel=0.03)


def test_few_samples_still_take_off_what_profiling_adds() -> None:
    samples = [lawful_sample(plan, 800) for plan in plans(4)]
    for sample in samples:
        assert fit(lawful_sites(), samples).predict_ns(sample.channels) == pytest.approx(sample.end_to_end_ns, rel=0.1)


def test_the_tables_for_the_allocator_add_up_to_the_prediction() -> None:
    model = fit(lawful_sites(), [lawful_sample(plan, 800, 1.05) for plan in plans(16)])
    for plan in plans(6, seed=1):
        total = math.fsum(table.at(plan) for table in model.cost_tables()) + model.offset_ns
        assert total == pytest.approx(model.predict_ns(plan), rel=1e-12)


def test_a_disturbed_sample_does_not_turn_the_line() -> None:
    samples = [lawful_sample(plan, 800) for plan in plans(24)]
    slow = samples[7]
    samples[7] = Sample(slow.channels, slow.sites_ns, slow.kernels, 5 * slow.end_to_end_ns)
    model = fit(lawful_sites(), samples)
    assert model.predict_ns({"a": 24, "b": 40}) == pytest.approx(
        lawful_sample({"a": 24, "b": 40}).end_to_end_ns, rel=0.05
    )


def test_the_table_holds_the_kernels_own_times() -> None:
    samples = [lawful_sample(plan, 800) for plan in plans(24)]
    model = fit(lawful_sites(), samples)
    key = family_key({"ops": ["second"]})
    widths = tuple(width.at({"a": 24, "b": 40}) for width in SITE_WIDTHS["second"])
    assert model.table.cost(key, widths) == pytest.approx(true_ns("second", {"a": 24, "b": 40}), rel=0.1)


GAUGE_NS = 1e6


def wandering(count: int, power: float, seed: int = 0, spread: float = 0.15) -> list[Sample]:
    """The device slows down and recovers: the gauge by a factor, the network by a power of it. As often faster as
    slower than its usual speed."""
    factors = np.exp(np.random.default_rng(seed).normal(0, spread, count))
    factors /= np.median(factors)
    return [
        replace(lawful_sample(plan, 800, gauge_ns=GAUGE_NS).scaled(factor**power), gauge_ns=GAUGE_NS * factor)
        for plan, factor in zip(plans(count), factors.tolist(), strict=True)
    ]


@pytest.mark.parametrize(("power", "within"), [(1.0, 0.005), (1.5, 0.02)])
def test_a_device_that_wanders_gives_the_predictions_of_a_steady_one(power: float, within: float) -> None:
    steady = fit(lawful_sites(), wandering(41, power, spread=0.0))
    found = fit(lawful_sites(), wandering(41, power))
    assert found.powers.gauge == pytest.approx(power - 1, abs=0.1)
    for plan in [*plans(6, seed=1), {"a": 24, "b": 40}, {"a": 56, "b": 12}]:
        assert found.predict_ns(plan) == pytest.approx(steady.predict_ns(plan), rel=within)
        assert found.predict_ns(plan) == pytest.approx(lawful_sample(plan).end_to_end_ns, rel=0.03)


def test_a_device_whose_memory_wanders_gives_the_predictions_of_a_steady_one() -> None:
    factors = np.exp(np.random.default_rng(2).normal(0, 0.1, 41))
    factors /= np.median(factors)
    samples = [
        replace(lawful_sample(plan, 800).scaled(factor**0.3), gauge_ns=GAUGE_NS, stream_ns=4e6 * factor)
        for plan, factor in zip(plans(41), factors.tolist(), strict=True)
    ]
    found = fit(lawful_sites(), samples)
    assert found.powers.gauge == 0
    assert found.powers.stream == pytest.approx(0.3, abs=0.05)
    assert found.usual == pytest.approx(Speed(GAUGE_NS, 4e6))
    assert found.slowdown(Speed(1.1 * GAUGE_NS, 8e6)) == pytest.approx(1.1 * 2**found.powers.stream)
    for plan in [*plans(6, seed=1), {"a": 24, "b": 40}, {"a": 56, "b": 12}]:
        assert found.predict_ns(plan) == pytest.approx(lawful_sample(plan).end_to_end_ns, rel=0.03)


def test_without_a_gauge_times_stay_as_they_are() -> None:
    samples = [lawful_sample(plan, 800) for plan in plans(24)]
    model = fit(lawful_sites(), samples)
    assert model.powers == Powers()
    assert model.samples == tuple(samples)


def test_a_device_that_stands_still_tells_nothing_about_its_wandering() -> None:
    assert fit(lawful_sites(), wandering(41, 1.9, spread=0.001)).powers == Powers()
    assert fit(lawful_sites(), wandering(5, 1.5)).powers == Powers()  # too few
    assert fit(lawful_sites(), wandering(1, 1.5) * 20).powers == Powers()  # one plan, often


def test_a_network_never_speeds_up_where_the_gauge_slows_down() -> None:
    assert fit(lawful_sites(), wandering(41, 0.5)).powers == Powers()
    assert fit(lawful_sites(), wandering(41, 3.5)).powers.gauge <= 1.0


def test_kernels_that_other_networks_showed_are_predicted_where_no_sample_was() -> None:
    at = {"a": 64, "b": 20}
    samples = [lawful_sample({"a": 64, "b": b}, gauge_ns=GAUGE_NS) for b in (64, 63, 62, 61)]
    widths = SITE_WIDTHS["second"][0].at(at), SITE_WIDTHS["second"][1].at(at)
    family = family_key({"ops": ["second"]})
    known: Known = {family: {widths: 77_777.0 / GAUGE_NS, (64, 64): 123.0}}
    model = fit(lawful_sites(), samples, known)
    assert model.table.samples[family][widths] == (77_777.0,)  # in gauges there, in nanoseconds of this device here
    assert model.table.samples[family][64, 64] != (123.0 * GAUGE_NS,)
    assert model.predict_ns(at) > fit(lawful_sites(), samples).predict_ns(at) + 20_000


def noisy(plan: dict[str, int], generator: np.random.Generator) -> Sample:
    own = {site: float(np.exp(generator.normal(0, 0.05))) for site in SITE_WIDTHS}
    whole = float(np.exp(generator.normal(0, 0.03)))
    return lawful_sample(plan, 800, factors=own).scaled(whole)


def drawn(counts: Sequence[int], count: int, generator: np.random.Generator) -> list[dict[str, int]]:
    every = [{"a": a, "b": b} for a in counts for b in counts]
    return [every[number] for number in generator.choice(len(every), count, replace=False)]


def test_nine_in_ten_new_plans_of_a_noisy_law_lie_in_their_interval() -> None:
    edges, anywhere = tuple(range(8, 65, 4)), tuple(range(9, 65, 2))
    inside: dict[bool, list[bool]] = {True: [], False: []}
    for seed in range(8):
        generator = np.random.default_rng(seed)
        plans_ = drawn(edges, 45, generator) + drawn(anywhere, 45, generator)
        samples = [noisy(plans_[number], generator) for number in generator.permutation(len(plans_))]
        candidates = {"a": edges, "b": edges}
        model = replace(fit(lawful_sites(), samples), candidates=candidates)
        model = replace(model, spread=spread_of(held_out(model)))
        for plan in drawn(edges, 60, generator) + drawn(anywhere, 60, generator):
            low, high = model.interval_ns(plan)
            inside[model.on_edges(plan)].append(low <= noisy(plan, generator).end_to_end_ns <= high)
    for hits in inside.values():
        assert len(hits) == 480
        assert 0.84 < np.mean(hits) < 0.97


def interval_model(spread: Spread) -> LatencyModel:
    model = fit(lawful_sites(), [lawful_sample(plan) for plan in plans(16)])
    return replace(model, spread=spread, candidates={"a": CANDIDATES, "b": CANDIDATES})


def test_a_plan_is_on_edges_when_every_group_keeps_a_candidate() -> None:
    model = interval_model(Spread(0.02, 0.1))
    assert model.on_edges({"a": 8, "b": 64})
    assert not model.on_edges({"a": 8, "b": 63})
    for plan, margin in (({"a": 8, "b": 64}, 0.02), ({"a": 8, "b": 63}, 0.1)):
        low, high = model.interval_ns(plan)
        assert low * (1 + margin) == pytest.approx(model.predict_ns(plan)) == pytest.approx(high / (1 + margin))


def test_where_none_was_held_out_the_interval_says_nothing() -> None:
    model = interval_model(Spread(0.02, math.nan))
    assert model.interval_ns({"a": 8, "b": 63}) == (0.0, math.inf)
    assert interval_model(Spread()).interval_ns({"a": 8, "b": 64}) == (0.0, math.inf)


def test_one_more_sample_moves_the_prediction_and_keeps_what_was_held_out() -> None:
    at = {"a": 24, "b": 40}
    known: Known = {family_key({"ops": ["stranger"]}): {(3, 3): 1.0}}
    before = replace(interval_model(Spread(0.02, 0.1)), known=known)
    after = before.learned(lawful_sample(at, factors=dict.fromkeys(SITE_WIDTHS, 1.1)))
    assert before.predict_ns(at) < after.predict_ns(at)
    assert len(after.samples) == len(before.samples) + 1
    assert (after.spread, after.candidates, after.known) == (before.spread, before.candidates, known)
