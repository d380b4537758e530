"""The cheapest plan of a worth, floors under costs, and quantities that are the largest of several sums."""

import numpy as np
import pytest

from pipeline.allocation import Budget, Choice, CostTable, Option, Unreachable, allocate_cheapest, allocate_exact
from pipeline.allocation.dual import relax
from pipeline.allocation.elimination import plan_elimination
from pipeline.allocation.problem import holds, value_of
from pipeline.allocation.selectors import asked_sums
from pipeline.allocation.target import importance, negated
from pipeline.allocation.variables import find_variables
from targets.errors import BadInput
from tests.allocation.problems import best_plan, every_plan, over, random_budgets, random_choices

TOLERANCE = 1e-5


@pytest.mark.parametrize("seed", range(20))
def test_cheapest_is_what_exhaustive_search_finds(seed: int) -> None:
    rng = np.random.default_rng([seed, 31])
    choices = random_choices(rng, groups=5)
    target, other = random_budgets(rng, choices, 2)
    worth = float(np.quantile([value_of(choices, plan) for plan in every_plan(choices)], 0.6))
    fitting = [p for p in every_plan(choices) if other.allows(other.at(p)) and value_of(choices, p) >= worth - 1e-9]
    if not fitting:
        with pytest.raises(Unreachable):
            allocate_cheapest(choices, target, [other], least_value=worth)
        return
    least = min(target.at(plan) for plan in fitting)
    found = allocate_cheapest(choices, target, [other], least_value=worth, gap=0.0)
    assert found.costs[target.quantity] == pytest.approx(least, abs=TOLERANCE * max(1.0, least))
    assert found.bound <= least + 1e-9
    assert other.allows(other.at(found.channels))
    assert found.value >= worth - 1e-6


@pytest.mark.parametrize("seed", range(20))
def test_floors_under_costs_hold_and_bounds_stay_proved(seed: int) -> None:
    rng = np.random.default_rng([seed, 32])
    choices = random_choices(rng, groups=5)
    first, second = random_budgets(rng, choices, 2)
    costs = sorted(first.at(plan) for plan in every_plan(choices))
    low, high = costs[int(0.3 * len(costs))], costs[int(0.5 * len(costs))]
    between = Budget(first.quantity, high, first.tables, first.constant, least=low)
    best = best_plan(choices, [between, second])
    if best is None:
        with pytest.raises(Unreachable):
            allocate_exact(choices, [between, second])
        return
    found = allocate_exact(choices, [between, second], gap=0.0)
    assert holds([between, second], found.channels)
    assert found.value == pytest.approx(best, abs=TOLERANCE)
    assert found.bound >= best - 1e-9


@pytest.mark.parametrize("seed", range(10))
def test_largest_of_several_sums_is_what_the_quantity_costs(seed: int) -> None:
    rng = np.random.default_rng([seed, 33])
    choices = random_choices(rng, groups=4)
    tables = [budget.tables for budget in random_budgets(rng, choices, 3)]
    rows = [Budget("memory", 0.0, own, where=f"n{n}") for n, own in enumerate(tables)]
    peaks = [max(row.at(plan) for row in rows) for plan in every_plan(choices)]
    limit = float(np.quantile(peaks, 0.4))
    rows = [Budget("memory", limit, row.tables, where=row.where) for row in rows]
    found = allocate_exact(choices, rows, gap=0.0)
    assert found.costs == {"memory": max(row.at(found.channels) for row in rows)}
    assert found.costs["memory"] <= limit * (1 + 1e-9)
    assert found.value == pytest.approx(best_plan(choices, rows), abs=TOLERANCE)


def test_floor_out_of_reach_says_what_is_reached() -> None:
    choices = (Choice("g", (Option(4, 1.0), Option(16, 2.0))),)
    flops = Budget("flops", 30.0, (CostTable("conv", (over("g"),), lambda w: float(w[0])),), least=20.0)
    with pytest.raises(Unreachable, match="keeps flops at 20 or more: the most that is reached is 16"):
        allocate_exact(choices, [flops])


def test_importance_out_of_reach_says_so() -> None:
    choices = (Choice("g", (Option(4, 1.0), Option(16, 2.0))),)
    flops = Budget("flops", 0.0, (CostTable("conv", (over("g"),), lambda w: float(w[0])),))
    with pytest.raises(Unreachable, match="keeps importance at 3 or more: the most that is reached is 2"):
        allocate_cheapest(choices, flops, least_value=3.0)


def test_peak_out_of_reach_names_a_plan_that_exists() -> None:
    choices = tuple(Choice(g, (Option(4, 1.0), Option(16, 2.0))) for g in ("a", "b"))
    rows = [
        Budget("memory", 5.0, (CostTable(where, widths, lambda w: float(sum(w))),), where=where)
        for where, widths in (("n1", (over("a"),)), ("n2", (over("a"), over("b"))))
    ]
    with pytest.raises(Unreachable, match=r"brings memory to 5: the best reachable is 8 \(0\.25x of the uncut 32\)"):
        allocate_exact(choices, rows)


def test_one_quantity_bounded_twice_in_one_place_is_refused() -> None:
    row = Budget("memory", 5.0, (), where="n1")
    with pytest.raises(BadInput, match="Each quantity takes one limit"):
        allocate_exact((Choice("g", (Option(1, 1.0),)),), [row, row])


def test_floor_above_the_limit_is_refused() -> None:
    with pytest.raises(BadInput, match="at least 6 and at most 5"):
        allocate_exact((Choice("g", (Option(1, 1.0),)),), [Budget("flops", 5.0, (), least=6.0)])


@pytest.mark.parametrize("seed", range(10))
def test_elimination_finds_least_sums_for_every_option(seed: int) -> None:
    rng = np.random.default_rng([seed, 34])
    choices = random_choices(rng, groups=4)
    (budget,) = random_budgets(rng, choices, 1)
    relaxation = relax(choices, budget, [])
    assert relaxation is not None
    plans = list(every_plan(choices))
    costs = np.array([budget.at(plan) for plan in plans])
    tables = {scope: stack[0] for scope, (_, stack) in relaxation.stacks.items()}
    constant = relaxation.constants[0]
    total, _ = relaxation.elimination.minimise(tables)
    assert (total + constant) * relaxation.scale[0] == pytest.approx(costs.min())
    least = relaxation.elimination.least_with(tables)
    for number, choice in enumerate(choices):
        for index, option in enumerate(choice.options):
            taken = [cost for cost, plan in zip(costs, plans, strict=True) if plan[choice.group] == option.channels]
            assert (least[number][index] + constant) * relaxation.scale[0] == pytest.approx(min(taken))


def test_sums_that_begin_alike_share_their_chain() -> None:
    choices = tuple(Choice(g, (Option(0, 0.0), Option(8, 1.0))) for g in "abcd")
    sums = [(("a", 1), ("b", 1)), (("a", 1), ("b", 1), ("c", 1)), (("a", 1), ("b", 1), ("c", 1), ("d", 1))]
    variables = find_variables(choices, sums)
    assert [variable.terms for variable in variables[4:]] == sums
    assert variables[-1].values == (0, 8, 16, 24, 32)


def test_tables_that_hang_together_too_closely_are_left_to_the_program() -> None:
    choices = tuple(Choice(f"g{n}", tuple(Option(c, float(c)) for c in range(40))) for n in range(6))
    pairs = [(a, b) for a in range(6) for b in range(a)]
    assert plan_elimination(find_variables(choices, ()), [tuple(sorted(pair)) for pair in pairs]) is None


def test_importance_and_its_negative_are_the_same_sum() -> None:
    choices = random_choices(np.random.default_rng(0), groups=4)
    kept = importance(choices, least=1.0)
    for plan in every_plan(choices):
        assert kept.at(plan) == pytest.approx(value_of(choices, plan))
        assert negated(kept).at(plan) == pytest.approx(-kept.at(plan))
    assert negated(kept).limit == -1.0
    assert asked_sums([kept]) == set()
