"""Instances the size of real networks."""

from functools import partial

import numpy as np
import pytest

from pipeline.allocation import Budget, CostTable, Scores, Width, allocate_exact, choices_from
from pipeline.allocation.problem import holds
from tests.allocation.problems import Stairs, over

Network = tuple[dict[str, np.ndarray], list[CostTable]]


def resnet50(rng: np.random.Generator) -> Network:
    """37 groups, 54 convolutions; each residual stage shares one group among its outputs."""
    scores: dict[str, np.ndarray] = {}
    tables: list[CostTable] = []

    def group(name: str, width: int) -> str:
        scores[name] = draw(rng, width)
        return name

    def conv(read: Width, written: Width, kernel: int, side: int) -> None:
        cost = Stairs(16, kernel * kernel * side * side / 16, side * side / 4)
        tables.append(CostTable(f"conv{len(tables)}", (read, written), cost))

    before = over(group("stem", 64))
    conv(Width((), 3), before, 7, 112)
    for stage, (width, blocks, side) in enumerate([(64, 3, 56), (128, 4, 28), (256, 6, 14), (512, 3, 7)]):
        after = over(group(f"stage{stage}", 4 * width))
        conv(before, after, 1, side)
        for block in range(blocks):
            inner = [over(group(f"stage{stage}.{block}.{i}", width)) for i in range(2)]
            conv(after if block else before, inner[0], 1, side)
            conv(inner[0], inner[1], 3, side)
            conv(inner[1], after, 1, side)
        before = after
    conv(before, Width((), 1000), 1, 1)
    return scores, tables


def densenet(rng: np.random.Generator, blocks: tuple[int, ...]) -> Network:
    """Every layer reads the concatenation of all before it in its block."""
    scores: dict[str, np.ndarray] = {"stem": draw(rng, 64)}
    tables: list[CostTable] = []
    read = ["stem"]
    for b, layers in enumerate(blocks):
        side = 56 >> b
        for layer in range(layers):
            squeeze, grow = f"{b}.{layer}.squeeze", f"{b}.{layer}.grow"
            scores |= {squeeze: draw(rng, 128), grow: draw(rng, 32)}
            tables.append(CostTable(f"norm {squeeze}", (over(*read),), partial(per_channel, side * side)))
            tables.append(CostTable(squeeze, (over(*read), over(squeeze)), Stairs(16, side * side / 16, side)))
            tables.append(CostTable(grow, (over(squeeze), over(grow)), Stairs(16, 9 * side * side / 16, side)))
            read = [*read, grow]
        scores[f"{b}.down"] = draw(rng, sum(len(scores[name]) for name in read) // 2)
        tables.append(CostTable(f"{b}.down", (over(*read), over(f"{b}.down")), Stairs(16, side * side / 16, side)))
        read = [f"{b}.down"]
    return scores, tables


def per_channel(area: int, widths: tuple[int, ...]) -> float:
    return float(area * widths[0])


def draw(rng: np.random.Generator, width: int) -> np.ndarray:
    score = rng.standard_normal(width) ** 2
    return score / np.linalg.norm(score)


def eighths(scores: Scores, grid: int) -> dict[str, list[int]]:
    """Eight widths a group, on the grid."""
    return {g: sorted({max(grid, round(len(s) * k / 8 / grid) * grid) for k in range(1, 9)}) for g, s in scores.items()}


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_resnet50_is_solved_within_one_percent(share: float) -> None:
    scores, tables = resnet50(np.random.default_rng(0))
    choices = choices_from(scores, eighths(scores, 8))
    full = {group: len(score) for group, score in scores.items()}
    budget = Budget("latency", share * Budget("latency", 0.0, tuple(tables)).at(full), tuple(tables))
    found = allocate_exact(choices, [budget])
    assert found.gap <= 0.01
    assert holds([budget], found.channels)
    assert len(tables) >= 50


def test_densenet_concatenations_are_solved_within_one_percent() -> None:
    scores, tables = densenet(np.random.default_rng(0), (6, 12, 24, 16))
    choices = choices_from(scores, eighths(scores, 16))
    full = {group: len(score) for group, score in scores.items()}
    budget = Budget("latency", 0.5 * Budget("latency", 0.0, tuple(tables)).at(full), tuple(tables))
    found = allocate_exact(choices, [budget])
    assert found.gap <= 0.01
    assert holds([budget], found.channels)


def test_when_time_is_up_a_good_plan_is_there_and_the_gap_says_what_is_unproved() -> None:
    scores, tables = resnet50(np.random.default_rng(1))
    choices = choices_from(scores, eighths(scores, 8))
    full = {group: len(score) for group, score in scores.items()}
    budget = Budget("latency", 0.4 * Budget("latency", 0.0, tuple(tables)).at(full), tuple(tables))
    hurried, patient = allocate_exact(choices, [budget], time_limit_s=0.0), allocate_exact(choices, [budget])
    assert holds([budget], hurried.channels)
    assert 0.97 * patient.value <= hurried.value <= patient.bound <= hurried.bound + 1e-6
