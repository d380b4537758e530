"""From kernels to the whole, on kernels whose law is known."""

import math

import numpy as np
import pytest

from pipeline.latency.predict import fit, held_out
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
        halved = math.fsum(table.at(plan) for table in model.cost_tables(0.5))
        assert halved == pytest.approx((model.predict_ns(plan) - model.offset_ns) / 2, rel=1e-12)


def test_a_disturbed_sample_does_not_turn_the_line() -> None:
    samples = [lawful_sample(plan, 800) for plan in plans(24)]
    slow = samples[7]
    samples[7] = Sample(slow.channels, slow.sites_ns, slow.kernels, 5 * slow.end_to_end_ns)
    model = fit(lawful_sites(), samples)
    assert model.predict_ns({"a": 24, "b": 40}) == pytest.approx(
        lawful_sample({"a": 24, "b": 40}).end_to_end_ns, rel=0.05
    )


def test_held_out_plans_of_a_lawful_network_have_small_errors() -> None:
    found = held_out(lawful_sites(), [lawful_sample(plan, 800) for plan in plans(20)])
    assert found.plans == 20
    assert found.median_error < 0.02
    assert found.median_error <= found.p95_error


def test_held_out_errors_show_a_law_that_widths_do_not_tell() -> None:
    generator = np.random.default_rng(0)
    samples = [lawful_sample(plan, 0, scale=float(generator.uniform(0.5, 2))) for plan in plans(20)]
    assert held_out(lawful_sites(), samples).median_error > 0.1


def test_too_few_plans_are_not_called_checked() -> None:
    found = held_out(lawful_sites(), [lawful_sample(plan) for plan in plans(5)])
    assert found.plans == 0
    assert math.isnan(found.median_error)


def test_the_table_holds_the_kernels_own_times() -> None:
    samples = [lawful_sample(plan, 800) for plan in plans(24)]
    model = fit(lawful_sites(), samples)
    key = family_key({"ops": ["second"]})
    widths = tuple(width.at({"a": 24, "b": 40}) for width in SITE_WIDTHS["second"])
    assert model.table.cost(key, widths) == pytest.approx(true_ns("second", {"a": 24, "b": 40}), rel=0.1)
