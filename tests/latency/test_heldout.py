"""How good predictions are, on kernels whose law is known, and whose law is broken on purpose."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.latency.folds import FEWEST
from pipeline.latency.grain import Grain
from pipeline.latency.heldout import HeldOut, held_out, spread_of
from pipeline.latency.predict import fit
from pipeline.latency.sites import SiteMap
from pipeline.latency.table import Sample
from tests.latency.networks import GROUPS, lawful_sample, lawful_sites

EDGES = tuple(range(8, 65, 8))
CANDIDATES = dict.fromkeys(GROUPS, EDGES)


def plans(count: int, counts: Sequence[int] = EDGES, seed: int = 0) -> list[dict[str, int]]:
    """Different ones."""
    every = [{"a": a, "b": b} for a in counts for b in counts]
    return [every[number] for number in np.random.default_rng(seed).choice(len(every), count, replace=False)]


def checked(sites: SiteMap, samples: Sequence[Sample]) -> HeldOut:
    return held_out(replace(fit(sites, samples), candidates=CANDIDATES))


def test_held_out_plans_of_a_lawful_network_have_small_errors() -> None:
    found = checked(lawful_sites(), [lawful_sample(plan, 800) for plan in plans(20)])
    assert found.plans == 20
    assert found.anywhere_plans == 0
    assert found.median_error < 0.02
    assert found.median_error <= found.p95_error
    assert math.isnan(found.anywhere_median_error)


def test_held_out_errors_show_a_law_that_widths_do_not_tell() -> None:
    generator = np.random.default_rng(0)
    samples = [lawful_sample(plan, 0, scale=float(generator.uniform(0.5, 2))) for plan in plans(20)]
    assert checked(lawful_sites(), samples).median_error > 0.1


def test_a_plan_that_was_sampled_twice_does_not_foretell_itself() -> None:
    generator = np.random.default_rng(0)
    once = [lawful_sample(plan, 0, scale=float(generator.uniform(0.5, 2))) for plan in plans(20)]
    twice = [sample for sample in once for _ in range(2)]
    found = checked(lawful_sites(), twice)
    assert found.plans == 20
    assert found.median_error > 0.1
    few = checked(lawful_sites(), [once[0]] * 3 * FEWEST)
    assert few.plans == 0


def test_too_few_plans_are_not_called_checked() -> None:
    found = checked(lawful_sites(), [lawful_sample(plan) for plan in plans(FEWEST - 1)])
    assert found.plans == found.anywhere_plans == 0
    assert math.isnan(found.median_error)
    assert all(map(math.isnan, spread_of(found)))
    assert found.misses == ()


def mixed(generator: np.random.Generator) -> list[Sample]:
    """At candidates the law holds, elsewhere it does not."""
    good = [lawful_sample(plan, 800) for plan in plans(30)]
    bad = [
        lawful_sample(plan, 800, scale=float(generator.uniform(0.6, 1.6)))
        for plan in plans(15, counts=range(9, 64, 2), seed=1)
    ]
    samples = [*good, *bad]
    return [samples[number] for number in generator.permutation(len(samples))]


def test_errors_at_edges_and_anywhere_are_kept_apart() -> None:
    found = checked(lawful_sites(), mixed(np.random.default_rng(0)))
    assert (found.plans, found.anywhere_plans) == (30, 15)
    assert found.median_error < 0.05 < 0.15 < found.anywhere_median_error
    edges, anywhere = spread_of(found)
    assert found.median_error < edges < anywhere


def test_too_few_plans_anywhere_have_errors_but_no_interval() -> None:
    samples = [lawful_sample(plan, 800) for plan in [*plans(30), {"a": 9, "b": 63}]]
    found = checked(lawful_sites(), samples)
    assert found.anywhere_plans == 1
    assert found.anywhere_median_error < 0.1
    assert math.isfinite(spread_of(found).edges)
    assert math.isnan(spread_of(found).anywhere)


def test_a_device_that_wanders_is_not_an_error() -> None:
    factors = np.exp(np.random.default_rng(0).normal(0, 0.15, 40)).tolist()
    samples = [
        replace(lawful_sample(plan, 800, gauge_ns=1e6).scaled(factor**1.5), gauge_ns=1e6 * factor)
        for plan, factor in zip(plans(40), factors, strict=True)
    ]
    assert checked(lawful_sites(), samples).p95_error < 0.03


def unlawful(site: str, seed: int = 0) -> list[Sample]:
    generator = np.random.default_rng(seed)
    return [lawful_sample(plan, factors={site: float(generator.uniform(0.3, 3))}) for plan in plans(30)]


def test_the_largest_miss_is_the_kernel_that_breaks_its_law() -> None:
    for site in ("first", "second", "third"):
        worst = checked(lawful_sites(), unlawful(site)).misses[0]
        assert (worst.site, worst.op) == (site, site)
        assert worst.share > 0.01
        assert worst.because


def test_a_kernel_whose_times_differ_at_equal_widths_is_noisy() -> None:
    because = checked(lawful_sites(), unlawful("first")).misses[0].because
    assert because.startswith("its times at equal widths differ by")
    assert "%" in because


def test_a_kernel_that_no_plan_showed_twice_does_not_follow_its_widths() -> None:
    because = checked(lawful_sites(), unlawful("second")).misses[0].because
    assert because == "its time does not follow its widths as blocks of them"


def test_a_kernel_that_was_hardly_seen_off_its_step_says_so() -> None:
    generator = np.random.default_rng(0)
    on = [lawful_sample(plan) for plan in plans(30)]
    off = [
        lawful_sample(plan, factors={"second": float(generator.uniform(2, 9))})
        for plan in plans(4, counts=range(9, 64, 2), seed=1)
    ]
    found = checked(lawful_sites(Grain(8, 8)), [*on, *off])
    assert found.misses[0].site == "second"
    assert found.misses[0].because == "only 4 of 34 plans showed it at widths that are no multiple of 8"


def test_misses_are_few_and_the_largest_comes_first() -> None:
    shares = [miss.share for miss in checked(lawful_sites(), unlawful("second")).misses]
    assert shares == sorted(shares, reverse=True)
    assert len(shares) == 3
