"""Which precision is recommended, and why not another."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.recipe import Recipe, make_recipe
from pipeline.stages.precisions import FLOOR, recommend, said_of, wanted
from targets.runtimes import facts_of


def row(
    precision: str, value: float, drop: float | None, *, width: float = 0.02, refused: str | None = None
) -> dict[str, Any]:
    ratio = {"value": value, "low": value * (1 - width), "high": value * (1 + width)}
    return {"precision": precision, "ratio": ratio, "drop": drop, "refused": refused}


PLAIN = row("fp32", 2.0, 0.3)


def test_the_fastest_that_keeps_the_accuracy_is_recommended() -> None:
    rows = [PLAIN, row("fp16", 2.5, 0.3), row("int8", 4.0, 0.5)]
    assert recommend(rows, 0.3, None) == ("int8", "2.00x as fast as fp32, +0.20 points lost to it")


def test_what_loses_more_than_the_floor_is_not_and_says_so() -> None:
    rows = [PLAIN, row("int8", 4.0, 0.3 + FLOOR + 0.01)]
    assert recommend(rows, 0.3, None) == ("fp32", "int8: it loses 0.51 points")


def test_a_floor_for_the_whole_drop_counts_instead() -> None:
    rows = [PLAIN, row("int8", 4.0, 1.2)]
    assert recommend(rows, 0.3, 1.5)[0] == "int8"
    assert recommend(rows, 0.3, 1.0)[0] == "fp32"


def test_what_is_not_certainly_faster_is_not_recommended() -> None:
    rows = [PLAIN, row("int8", 2.05, 0.3, width=0.05)]
    assert recommend(rows, 0.3, None) == ("fp32", "int8: not faster than fp32 for certain (1.02x)")


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (row("int8", 4.0, None), "its accuracy was not measured; give --validate"),
        (row("int8", 4.0, 0.0, refused="no kernels"), "no kernels"),
    ],
)
def test_what_nobody_looked_at_is_not_recommended(other: dict[str, Any], why: str) -> None:
    assert recommend([PLAIN, other], None, None) == ("fp32", f"int8: {why}")


@pytest.mark.parametrize(
    ("meets", "keeps", "says"),
    [
        (True, True, "+0.30 points lost: meets the latency goal"),
        (True, False, "+0.30 points lost: meets the latency goal, and loses more than is allowed"),
        (False, True, "+0.30 points lost: does not meet the latency goal"),
    ],
)
def test_latency_and_accuracy_of_int8_alone_are_two_verdicts(meets: bool, keeps: bool, says: str) -> None:
    assert said_of([{**row("int8", 2.0, 0.3), "meets": meets, "keeps": keeps}]) == [
        f"int8 alone, uncut: 2.00x as fast, {says}"
    ]


def test_an_accuracy_that_nobody_measured_does_not_hide_that_the_goal_is_met() -> None:
    (said,) = said_of([{**row("int8", 2.0, None), "meets": True, "keeps": None}])
    assert said.endswith("accuracy not measured: meets the latency goal")


def test_the_precision_that_a_target_names_stands_in_for_one_that_nobody_asked_for() -> None:
    facts = facts_of("tensorrt")
    open_, asked = recipe(), recipe(precisions=("fp32", "int8"))
    assert wanted(open_, facts) == ("fp16", "int8")
    assert wanted(open_, facts, "fp16") == ("fp16",)
    assert wanted(open_, facts, "fp32") == ()
    assert wanted(asked, facts, "fp16") == ("int8",)


def recipe(**fields: Any) -> Recipe:
    least = {"model": "net.onnx", "goal": "latency<=0.5x", "output": "small", "data": "train.npz"}
    return make_recipe({**least, **fields}, base=Path.cwd(), source="test")
