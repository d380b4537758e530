"""Kernels of the uncut network beside those of the cut one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.report.content import Table
from pipeline.report.text import DASH, as_float, entries, number, words


@dataclass(frozen=True)
class Pair:
    """One kernel before and after, in microseconds; None where there is none on that side."""

    name: str
    op: str
    before_us: float | None
    after_us: float | None

    @property
    def longest_us(self) -> float:
        return max(self.before_us or 0.0, self.after_us or 0.0)


def pair_kernels(report: Mapping[str, Any]) -> list[Pair]:
    """In the order of the uncut network, kernels that only the cut one has at the end.

    Kernels match by name, and by op where several carry one name (a layout conversion is named after its tensor).
    """
    before, after = (_timed(report, side) for side in ("before", "after"))
    pairs = []
    for (name, op, turn), time in before.items():
        match = (name, op, turn)
        if match not in after:
            alike = [key for key in after if key[0] == name and key not in before]
            match = alike[0] if alike else match
        pairs.append(Pair(name, match[1], time, after.pop(match, None)))
    return pairs + [Pair(name, op, None, time) for (name, op, _), time in after.items()]


def _timed(report: Mapping[str, Any], side: str) -> dict[tuple[str, str, int], float]:
    """By name, op, and how many of both came before."""
    found: dict[tuple[str, str, int], float] = {}
    for kernel in entries(report, "kernels", side):
        time = as_float(kernel.get("us"))
        name, op = words(kernel.get("name")), words(kernel.get("op"))
        if time is not None:
            turn = sum(1 for key in found if key[:2] == (name, op))
            found[name, op, turn] = time
    return found


def kernel_table(report: Mapping[str, Any]) -> Table:
    rows = tuple(
        (pair.name, pair.op, *(DASH if t is None else number(t, 4) for t in (pair.before_us, pair.after_us)))
        for pair in pair_kernels(report)
    )
    return Table(("kernel", "op", "before, µs", "after, µs"), rows, frozenset({2, 3}))
