"""Horizontal bars that the page draws itself: they stay sharp, selectable, and fit a phone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.report.content import kept_share, remarks
from pipeline.report.kernels import pair_kernels
from pipeline.report.text import as_float, entries, milliseconds, number, read, words

MOST_KERNELS = 24
MOST_GROUPS = 48


@dataclass(frozen=True)
class Bar:
    """Length, and the ends of its interval where there is one, in percent of the longest; `text` stands beside it."""

    percent: float
    text: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Row:
    name: str
    note: str
    before: Bar | None
    after: Bar | None


def latency_bars(report: Mapping[str, Any]) -> list[Row]:
    """End-to-end medians with their intervals."""
    sides = {side: read(report, "latency", side) for side in ("before", "after")}
    longest = max(as_float(read(side, key)) or 0.0 for side in sides.values() for key in ("median_ms", "high_ms"))
    before, after = (_interval_bar(side, longest) for side in sides.values())
    rows = [Row("before", "", before, None), Row("after", "", None, after)]
    return [row for row in rows if row.before or row.after]


def _interval_bar(side: Any, longest: float) -> Bar | None:
    median = as_float(read(side, "median_ms"))
    if median is None or not longest:
        return None
    low, high = (as_float(read(side, end)) for end in ("low_ms", "high_ms"))
    scale = 100 / longest
    return Bar(median * scale, milliseconds(median), low and low * scale, high and high * scale)


def kernel_bars(report: Mapping[str, Any]) -> tuple[list[Row], int]:
    """The slowest kernels, in the network's order, and how many others there are."""
    pairs = pair_kernels(report)
    slowest = sorted(pairs, key=lambda pair: pair.longest_us, reverse=True)[:MOST_KERNELS]
    longest = max((pair.longest_us for pair in pairs), default=0.0) or 1.0

    def bar(time: float | None) -> Bar | None:
        return None if time is None else Bar(100 * time / longest, number(time, 3))

    shown = [pair for pair in pairs if pair in slowest]
    return [Row(p.name, p.op, bar(p.before_us), bar(p.after_us)) for p in shown], len(pairs) - len(shown)


def width_bars(report: Mapping[str, Any]) -> tuple[list[Row], int]:
    """The groups that lose most of their width, in the network's order, and how many others there are."""
    groups = [group for group in entries(report, "groups") if as_float(group.get("width"))]
    cut_most = sorted(range(len(groups)), key=lambda index: _kept(groups[index]))[:MOST_GROUPS]
    rows = [
        Row(
            words(group.get("id")),
            ", ".join(remarks(group)),
            Bar(100.0, words(group.get("width"))),
            Bar(100 * _kept(group), f"{words(group.get('kept'))} of {words(group.get('width'))}, {kept_share(group)}"),
        )
        for group in (groups[index] for index in sorted(cut_most))
    ]
    return rows, len(groups) - len(rows)


def _kept(group: Mapping[str, Any]) -> float:
    width, kept = as_float(group.get("width")), as_float(group.get("kept"))
    return 1.0 if not width or kept is None else kept / width
