"""What every allocator promises, and what those that try plans out do with what they see."""

import itertools

import numpy as np
import pytest

from pipeline.allocation import (
    ALLOCATORS,
    Budget,
    CostTable,
    Unreachable,
    allocate,
    allocate_exact,
    allocate_knapsack,
    allocate_netadapt,
    allocate_sensitivity,
    choices_from,
)
from pipeline.allocation.netadapt import DECAY, STEP
from pipeline.allocation.problem import holds
from targets.errors import BadInput
from tests.allocation.problems import over
from tests.allocation.trials import Formula

SCORES = {
    "a": np.linspace(1.0, 2.0, 64),
    "b": np.linspace(0.0, 1.0, 32),
    "gone": np.linspace(0.01, 0.02, 16),
    "fixed": np.ones(8),
}
CANDIDATES = {"a": range(8, 65, 8), "b": range(8, 33, 8), "gone": range(0, 17, 4)}
CHOICES = choices_from(SCORES, CANDIDATES)


def product_of(limit: float) -> Budget:
    conv = CostTable("conv", (over("a"), over("b")), lambda w: float(w[0] * w[1]))
    joined = CostTable("joined", (over("a", "b"), over("gone")), lambda w: float(w[0] * w[1]))
    return Budget("latency", limit, (conv, joined))


@pytest.mark.parametrize("name", ALLOCATORS)
def test_every_allocator_holds_all_budgets(name: str) -> None:
    budgets = [product_of(1100.0), Budget("params", 70.0, (CostTable("p", (over("a", "b"),), lambda w: float(w[0])),))]
    found = allocate(name, SCORES, CHOICES, budgets, trial=Formula(SCORES))
    assert holds(budgets, found.channels)
    assert found.costs == {budget.quantity: budget.at(found.channels) for budget in budgets}
    assert found.value <= allocate_exact(CHOICES, budgets, gap=0.0).value + 1e-9
    assert found.bound >= allocate_exact(CHOICES, budgets, gap=0.0).value - 1e-6


@pytest.mark.parametrize("name", ALLOCATORS)
def test_every_allocator_keeps_all_where_all_fits(name: str) -> None:
    found = allocate(name, SCORES, CHOICES, [product_of(1e6)], trial=Formula(SCORES))
    assert found.channels == {"a": 64, "b": 32, "gone": 16, "fixed": 8}


@pytest.mark.parametrize("name", ALLOCATORS)
def test_every_allocator_says_when_it_cannot(name: str) -> None:
    with pytest.raises(Unreachable, match="best reachable"):
        allocate(name, SCORES, CHOICES, [product_of(-1.0)], trial=Formula(SCORES))


@pytest.mark.parametrize("name", ALLOCATORS)
def test_every_allocator_chooses_the_same_twice(name: str) -> None:
    trial = Formula(SCORES)
    plans = [allocate(name, SCORES, CHOICES, [product_of(900.0)], trial=trial).channels for _ in range(2)]
    assert plans[0] == plans[1]


@pytest.mark.parametrize("name", ["exact", "knapsack", "netadapt", "sensitivity"])
def test_allocators_that_choose_by_worth_let_a_worthless_branch_vanish(name: str) -> None:
    found = allocate(name, SCORES, CHOICES, [product_of(64.0 * 32)], trial=Formula(SCORES))
    assert found.channels == {"a": 64, "b": 32, "gone": 0, "fixed": 8}


@pytest.mark.parametrize("name", ["netadapt", "sensitivity"])
def test_allocators_that_try_plans_out_ask_for_a_trial(name: str) -> None:
    with pytest.raises(BadInput, match=f"The allocator {name} tries plans out"):
        allocate(name, SCORES, CHOICES, [product_of(900.0)])


def test_knapsack_counts_what_a_producer_saves_and_not_its_readers() -> None:
    scores = {"early": np.ones(16), "late": np.ones(16)}
    choices = choices_from(scores, dict.fromkeys(scores, (8, 16)))
    # Thinning `early` saves its reader 100; thinning `late` saves its producer 60. Either is enough.
    reader = CostTable("reader", (over("early"), over("late")), lambda w: 100.0 * (w[0] > 8) + 60.0 * (w[1] > 8))
    budget = Budget("latency", 105.0, (reader,))
    assert allocate_knapsack(choices, [budget]).channels == {"early": 16, "late": 8}


def test_sensitivity_spares_the_group_that_the_loss_answers_to() -> None:
    scores = {"sharp": np.concatenate([np.full(15, 0.001), [1.0]])[::-1], "flat": np.ones(16)}
    choices = choices_from(scores, {group: range(2, 17, 2) for group in scores})
    cost = CostTable("sum", (over("sharp", "flat"),), lambda w: float(w[0]))
    found = allocate_sensitivity(choices, [Budget("params", 16.0, (cost,))], Formula(scores))
    assert found.channels["flat"] > found.channels["sharp"] == 2


def test_netadapt_goes_down_in_its_steps_and_adopts_every_plan_on_the_way() -> None:
    scores = {"a": np.ones(400), "b": np.linspace(0.0, 1.0, 400)}
    choices = choices_from(scores, {group: range(1, 401) for group in scores})
    cost = CostTable("sum", (over("a", "b"),), lambda w: float(w[0]))
    trial = Formula(scores)
    found = allocate_netadapt(choices, [Budget("latency", 700.0, (cost,))], trial)
    costs = [float(sum(plan.values())) for plan in trial.adopted]
    steps = [before - after for before, after in itertools.pairwise(costs)]
    assert trial.adopted[-1] == found.channels
    assert (costs[0], costs[-1]) == (800.0, 700.0)
    assert steps[:3] == [np.ceil(800 * STEP * DECAY**n) for n in range(3)]
    assert found.channels["b"] < found.channels["a"]
