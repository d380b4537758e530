"""The exact allocator against exhaustive search, and its proofs."""

import numpy as np
import pytest

from pipeline.allocation import (
    Budget,
    Choice,
    CostTable,
    Option,
    Unreachable,
    Width,
    allocate_exact,
    choices_from,
    elimination,
    minimum_cost,
    selectors,
)
from pipeline.allocation.dual import ascend, relax
from pipeline.allocation.problem import holds, value_of
from pipeline.allocation.target import importance, negated
from targets.errors import BadInput, GoalNotMet
from tests.allocation.problems import best_plan, every_plan, over, random_budgets, random_choices

TOLERANCE = 1e-5  # above the tie, below any difference between plans of these problems


@pytest.mark.parametrize("budgets", [1, 2, 3])
@pytest.mark.parametrize("seed", range(15))
def test_finds_what_exhaustive_search_finds(seed: int, budgets: int) -> None:
    rng = np.random.default_rng([seed, budgets])
    choices = random_choices(rng, groups=5)
    limits = random_budgets(rng, choices, budgets)
    best = best_plan(choices, limits)
    if best is None:
        with pytest.raises(GoalNotMet):
            allocate_exact(choices, limits, gap=0.0)
        return
    found = allocate_exact(choices, limits, gap=0.0)
    assert found.value == pytest.approx(best, abs=TOLERANCE)
    assert found.bound >= best - 1e-9
    assert holds(limits, found.channels)
    assert found.value == value_of(choices, found.channels)


@pytest.mark.parametrize("seed", range(10))
def test_without_elimination_the_program_alone_finds_the_best(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elimination, "MOST_ENTRIES", 0)
    rng = np.random.default_rng([seed, 78])
    choices = random_choices(rng, groups=5)
    limits = random_budgets(rng, choices, 2)
    best = best_plan(choices, limits)
    if best is None:
        with pytest.raises(GoalNotMet):
            allocate_exact(choices, limits)
        return
    found = allocate_exact(choices, limits, gap=0.0)
    assert found.value == pytest.approx(best, abs=TOLERANCE)
    assert found.bound >= best - 1e-9


@pytest.mark.parametrize("seed", range(10))
def test_without_the_program_prices_alone_give_a_bound_that_holds(seed: int) -> None:
    rng = np.random.default_rng([seed, 79])
    choices = random_choices(rng, groups=5)
    limits = random_budgets(rng, choices, 2)
    best = best_plan(choices, limits)
    relaxation = relax(choices, negated(importance(choices)), limits)
    assert relaxation is not None
    ascent = ascend(relaxation, deadline=0.0, gap=0.0)
    if best is not None:
        assert ascent.hopeless is None
        assert -ascent.bound * relaxation.scale[0] >= best - 1e-9


@pytest.mark.parametrize("seed", range(8))
def test_bound_and_gap_hold_when_sums_are_thinned(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selectors, "MAX_SUM_VALUES", (3,))
    monkeypatch.setattr(elimination, "MOST_ENTRIES", 0)
    rng = np.random.default_rng([seed, 77])
    choices = random_choices(rng, groups=5)
    limits = random_budgets(rng, choices, 2)
    best = best_plan(choices, limits)
    if best is None:
        with pytest.raises(GoalNotMet):
            allocate_exact(choices, limits)
        return
    found = allocate_exact(choices, limits)
    assert holds(limits, found.channels)
    assert found.value <= best + TOLERANCE <= found.bound + 2 * TOLERANCE
    assert found.gap >= (best - found.value) / max(abs(best), abs(found.value)) - TOLERANCE


@pytest.mark.parametrize("seed", range(6))
def test_gap_of_an_early_stop_still_bounds_the_best(seed: int) -> None:
    rng = np.random.default_rng([seed, 5])
    choices = random_choices(rng, groups=6, vanishing=False)
    limits = random_budgets(rng, choices, 1)
    found = allocate_exact(choices, limits, gap=0.2)
    best = best_plan(choices, limits)
    assert best is not None
    assert found.value - TOLERANCE <= best <= found.bound + TOLERANCE
    assert found.gap == pytest.approx((found.bound - found.value) / max(abs(found.bound), abs(found.value)))


def test_same_problem_gives_the_same_plan_twice() -> None:
    rng = np.random.default_rng(3)
    choices = random_choices(rng, groups=6, vanishing=False)
    limits = random_budgets(rng, choices, 1)
    assert allocate_exact(choices, limits).channels == allocate_exact(choices, limits).channels


def test_residual_stage_that_reads_and_writes_one_group_is_charged_for_both_sides() -> None:
    choices = (Choice("stage", (Option(4, 1.0), Option(8, 2.0), Option(12, 3.0))),)
    square = CostTable("conv", (over("stage"), over("stage")), lambda widths: float(widths[0] * widths[1]))
    found = allocate_exact(choices, [Budget("latency", 100.0, (square,))])
    assert found.channels == {"stage": 8}
    assert found.costs == {"latency": 64.0}


def test_concatenation_is_charged_at_the_sum_of_its_parts() -> None:
    choices = tuple(Choice(g, (Option(4, 1.0), Option(8, 1.5), Option(16, 1.8))) for g in ("a", "b"))
    cliff = CostTable("conv", (over("a", "b", constant=4),), lambda widths: 1.0 if widths[0] <= 20 else 100.0)
    found = allocate_exact(choices, [Budget("latency", 1.0, (cliff,))], gap=0.0)
    assert found.channels == {"a": 8, "b": 8}


def test_steps_multiply_channels_into_widths() -> None:
    choices = (Choice("g", (Option(1, 1.0), Option(2, 2.0), Option(3, 3.0))),)
    table = CostTable("conv", (Width((("g", 8),), 1),), lambda widths: float(widths[0]))
    assert allocate_exact(choices, [Budget("params", 17.0, (table,))]).channels == {"g": 2}


def test_equal_worth_goes_to_the_wider() -> None:
    choices = (Choice("g", (Option(16, 5.0), Option(32, 5.0), Option(48, 5.0))),)
    stair = CostTable("conv", (over("g"),), lambda widths: 1.0 if widths[0] <= 32 else 2.0)
    assert allocate_exact(choices, [Budget("latency", 1.0, (stair,))]).channels == {"g": 32}


def test_branch_vanishes_where_nothing_else_fits() -> None:
    choices = (Choice("inner", (Option(0, 0.0), Option(8, 1.0))), Choice("outer", (Option(8, 5.0), Option(16, 9.0))))
    pair = CostTable("conv", (over("inner"), over("outer")), lambda widths: float(widths[0] > 0) * 10 + widths[1])
    assert allocate_exact(choices, [Budget("latency", 16.0, (pair,))]).channels == {"inner": 0, "outer": 16}


def test_without_budgets_the_best_of_every_group_is_kept() -> None:
    choices = choices_from({"a": np.array([1.0, -1.0, 2.0]), "b": np.ones(4)}, {"a": [1, 2], "b": [2]})
    found = allocate_exact(choices, [])
    assert found.channels == {"a": 2, "b": 4}
    assert found.gap == pytest.approx(0.0, abs=1e-6)


def test_goal_out_of_reach_names_the_best_reachable_and_its_share() -> None:
    choices = (Choice("g", (Option(4, 1.0), Option(16, 2.0))),)
    budget = Budget("latency", 3.0, (CostTable("conv", (over("g"),), lambda widths: float(widths[0])),), constant=4.0)
    with pytest.raises(Unreachable, match=r"latency to 3.*best reachable is 8 \(0\.4x of the uncut 20\)") as caught:
        allocate_exact(choices, [budget])
    assert (caught.value.quantity, caught.value.least, caught.value.full) == ("latency", 8.0, 20.0)


def test_budgets_that_exclude_each_other_say_so() -> None:
    choices = (Choice("g", (Option(4, 1.0), Option(16, 2.0))),)
    up = Budget("latency", 5.0, (CostTable("up", (over("g"),), lambda widths: float(widths[0])),))
    down = Budget("params", 5.0, (CostTable("down", (over("g"),), lambda widths: 20.0 - widths[0]),))
    with pytest.raises(Unreachable, match="params to 5 beside latency <= 5: the best reachable is 16"):
        allocate_exact(choices, [up, down])


@pytest.mark.parametrize("seed", range(5))
def test_minimum_cost_is_the_cheapest_plan_of_all(seed: int) -> None:
    rng = np.random.default_rng([seed, 9])
    choices = random_choices(rng, groups=4)
    (budget,) = random_budgets(rng, choices, 1)
    least = min(budget.at(plan) for plan in every_plan(choices))
    assert minimum_cost(choices, budget) == pytest.approx(least, rel=2e-3)


def test_table_over_an_undecided_group_is_refused() -> None:
    with pytest.raises(BadInput, match="depends on group ghost"):
        allocate_exact(
            (Choice("g", (Option(1, 1.0),)),),
            [Budget("latency", 1.0, (CostTable("conv", (over("ghost"),), lambda _: 1.0),))],
        )


def test_descending_options_are_refused() -> None:
    with pytest.raises(BadInput, match="ascending"):
        allocate_exact((Choice("g", (Option(2, 1.0), Option(1, 1.0))),), [])
