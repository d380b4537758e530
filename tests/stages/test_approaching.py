"""The loop on a device whose law is known: it ends within the goal, close to it, and says so where it cannot."""

import itertools
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from pipeline.allocation import Budget, Unreachable, allocate, choices_from
from pipeline.goal import Bound
from pipeline.latency.predict import LatencyModel, fit
from pipeline.latency.table import Sample
from pipeline.stages.approaching import MOST_ROUNDS, Approach, approach
from pipeline.stages.steering import AIM, WASTE, Round, best, next_limit_ns
from tests.latency.networks import GROUPS, SITE_WIDTHS, lawful_sample, lawful_sites, true_ns

WIDTHS = range(4, 65, 4)
UNCUT_NS = sum(true_ns(site, GROUPS) for site in SITE_WIDTHS)
SCORES = {group: np.random.default_rng(3).uniform(0.5, 1.5, count) for group, count in GROUPS.items()}

Law = Callable[[Mapping[str, int], int], tuple[float, float]]
"""Plan and round number -> the share that is measured, and how far its interval reaches above it, as a factor."""


def run(limit: float, law: Law, widths: range = WIDTHS) -> Approach:
    """The whole loop, with the exact allocator over a fitted model; only the device is a formula."""
    choices = choices_from(SCORES, dict.fromkeys(GROUPS, tuple(widths)))
    plans = [dict(GROUPS), *({"a": a, "b": b} for a, b in itertools.product((8, 24, 48), (16, 32, 56)))]
    model = fit(lawful_sites(), [lawful_sample(plan) for plan in plans])

    def solve(latency: LatencyModel, limit_ns: float):
        budget = Budget("latency", limit_ns, latency.cost_tables(), latency.offset_ns)
        found = allocate("exact", SCORES, choices, [budget])
        return found, dict(found.channels)

    def try_out(number: int, plan: dict[str, int], limit_ns: float, latency: LatencyModel, value: float):
        share, reach = law(plan, number)
        now = share * UNCUT_NS
        done = Round(
            limit_ns, latency.predict_ns(plan), now, now / reach, now * reach, share, share * reach, plan, value=value
        )
        return done, lawful_sample(plan)

    return approach(Bound("latency", limit, relative=True), GROUPS, model, solve, try_out)


def share_of(plan: Mapping[str, int]) -> float:
    return sum(true_ns(site, plan) for site in SITE_WIDTHS) / UNCUT_NS


@pytest.mark.parametrize("limit", [0.8, 0.6, 0.5, 0.4])
@pytest.mark.parametrize("bias", [0.85, 1.0, 1.15])
@pytest.mark.parametrize("seed", range(2))
def test_loop_ends_just_within_the_goal_though_the_model_is_off_and_the_device_noisy(limit, bias, seed) -> None:
    noise = np.random.default_rng(seed).normal(0, 0.008, MOST_ROUNDS)
    bound = Bound("latency", limit, relative=True)

    def law(plan: Mapping[str, int], number: int) -> tuple[float, float]:
        off = 1.0 if plan == GROUPS else bias ** (1 - share_of(plan))  # what was cut is off, the uncut network is not
        return share_of(plan) * off * (1 + noise[number]), 1.01

    found = run(limit, law)
    chosen = best(found.rounds, bound)
    assert chosen is not None
    assert 0.93 <= chosen.centre(bound) <= 1.0
    assert chosen.reached(bound) <= 1.02


def test_every_round_measures_a_plan_that_was_not_measured_before() -> None:
    found = run(0.5, lambda plan, number: (share_of(plan) * (1.08 if number % 2 else 0.9), 1.01))
    plans = [tuple(sorted(done.channels.items())) for done in found.rounds]
    assert len(plans) == len(set(plans)) <= MOST_ROUNDS


def test_one_wasteful_round_is_not_the_last_word() -> None:
    """A busy minute: the first plan looks slower than it is, and what is asked for next is too little."""
    bound = Bound("latency", 0.5, relative=True)
    found = run(0.5, lambda plan, number: (share_of(plan) * (1.15 if number == 0 else 1.0), 1.005))
    chosen = best(found.rounds, bound)
    assert chosen is not None
    assert chosen.centre(bound) >= WASTE


def test_most_valuable_plan_within_the_goal_wins_not_the_last_one() -> None:
    bound = Bound("latency", 0.5, relative=True)
    found = run(0.5, lambda plan, number: (share_of(plan) * (0.93, 1.04, 0.90, 1.06)[number % 4], 1.005))
    chosen = best(found.rounds, bound)
    assert chosen is not None
    assert chosen.value == max(done.value for done in found.rounds if done.level(bound) <= 1)


def test_prediction_alone_refuses_nothing_the_fastest_plan_is_measured_once() -> None:
    least = share_of({"a": 4, "b": 4})
    found = run(0.9 * least, lambda plan, number: (share_of(plan), 1.005))
    assert [dict(done.channels) for done in found.rounds] == [{"a": 4, "b": 4}]
    met = run(0.9 * least, lambda plan, number: (0.85 * share_of(plan), 1.005))
    bound = Bound("latency", 0.9 * least, relative=True)
    assert best(met.rounds, bound) is not None


def test_coarse_stairs_end_with_the_plan_below_the_goal() -> None:
    """Two widths a group: nothing lies between, and no round is spent on looking for it."""
    bound = Bound("latency", 0.7, relative=True)
    found = run(0.7, lambda plan, number: (share_of(plan), 1.005), range(32, 65, 32))
    chosen = best(found.rounds, bound)
    shares = [share_of({"a": a, "b": b}) for a, b in itertools.product((32, 64), repeat=2)]
    assert chosen is not None
    assert chosen.share == pytest.approx(max(share for share in shares if share <= 0.7))
    assert len(found.rounds) <= 3


def test_other_quantities_out_of_reach_are_an_error_before_anything_is_measured() -> None:
    choices = choices_from(SCORES, dict.fromkeys(GROUPS, (32,)))
    model = fit(lawful_sites(), [lawful_sample(GROUPS), lawful_sample({"a": 8, "b": 8})])

    def solve(latency: LatencyModel, limit_ns: float):
        raise Unreachable(choices, Budget("params", 1.0, (), 5.0), 5.0)

    def never(*_: object) -> tuple[Round, Sample]:
        raise AssertionError

    with pytest.raises(Unreachable):
        approach(Bound("latency", 0.5, relative=True), GROUPS, model, solve, never)


def entry(share: float, reach: float = 1.0) -> Round:
    return Round(0.0, 0.0, share, share, share * reach, share, share * reach, {}, value=share)


BOUND = Bound("latency", 0.5, relative=True)


def test_next_limit_lies_between_a_plan_within_and_one_beyond() -> None:
    limit = next_limit_ns([entry(0.44), entry(0.54)], [100.0, 120.0], BOUND)
    assert limit is not None
    assert 100 < limit < 120
    assert next_limit_ns([entry(0.44), entry(0.54)], [100.0, 100.1], BOUND) is None


def test_next_limit_corrects_by_how_far_the_nearest_plan_was_off() -> None:
    assert next_limit_ns([entry(0.55)], [100.0], BOUND) == pytest.approx(100 * AIM / 1.1)
    assert next_limit_ns([entry(0.45)], [100.0], BOUND) == pytest.approx(100 * AIM / 0.9)
    assert next_limit_ns([entry(5.0)], [100.0], BOUND) == pytest.approx(60)  # never far at once


def test_wide_interval_counts_with_its_end_and_is_aimed_below() -> None:
    wide = entry(0.495, 1.05)
    assert wide.level(BOUND) > 1
    limit = next_limit_ns([wide], [100.0], BOUND)
    assert limit is not None
    assert limit < 100


def test_plan_that_wastes_little_ends_the_search() -> None:
    assert next_limit_ns([entry(0.49)], [100.0], BOUND) is None
