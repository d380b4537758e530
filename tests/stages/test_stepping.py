"""Rounds on the way to a goal: equal factors, and all of the recovery shared out."""

import math

import pytest

from pipeline.goal import parse_goal
from pipeline.stages.stepping import steps_to
from pipeline.training.config import RecoveryConfig


def test_one_round_has_the_goal_and_all_of_the_recovery() -> None:
    goal, config = parse_goal("latency<=0.5x"), RecoveryConfig(epochs=7)
    (step,) = steps_to(goal, 1, {}, config)
    assert (step.goal, step.recovery, step.last) == (goal, config, True)


@pytest.mark.parametrize("rounds", [2, 3, 5])
def test_each_round_leaves_the_same_share_of_what_the_one_before_left(rounds: int) -> None:
    goal = parse_goal("latency<=4ms,params<=0.25x")
    steps = steps_to(goal, rounds, {"latency": 8e6}, None)
    assert steps[-1].goal == goal
    for quantity, share in (("latency", 0.5), ("params", 0.25)):
        limits = [step.goal.bound(quantity).limit for step in steps[:-1]]  # type: ignore[arg-type,union-attr]
        assert limits == pytest.approx([share ** (number / rounds) for number in range(1, rounds)])
    assert all("on the way to latency<=4ms" in step.goal.text for step in steps[:-1])


def test_a_goal_that_is_met_already_asks_nothing_on_the_way() -> None:
    first, _ = steps_to(parse_goal("latency<=8ms,flops<=0.5x"), 2, {"latency": 1e6}, None)
    latency = first.goal.bound("latency")
    assert latency is not None
    assert latency.limit == 1.0


@pytest.mark.parametrize("epochs", [2, 3, 5, 10, 31])
@pytest.mark.parametrize("rounds", [2, 3, 5])
def test_epochs_and_minutes_add_up_and_no_round_goes_without(epochs: int, rounds: int) -> None:
    if epochs < rounds:
        return
    goal = parse_goal("flops<=0.5x")
    parts = [step.recovery for step in steps_to(goal, rounds, {}, RecoveryConfig(epochs=epochs, minutes=6.0))]
    counts = [part.epochs or 0 for part in parts if part]
    assert sum(counts) == epochs
    assert min(counts) >= 1
    assert max(counts) == counts[-1]
    assert math.fsum(part.minutes or 0 for part in parts if part) == pytest.approx(6.0)
