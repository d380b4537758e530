"""What other precisions gave, of the uncut network and of the cut one."""

from collections.abc import Mapping

from pipeline.report.content import Report, Table
from pipeline.report.text import DASH, entries, factor, interval, milliseconds, percent, points, read, size, words

COLUMNS = ("precision", "latency", "over the uncut fp32 network", "accuracy", "change", "size", "")


def precisions(report: Report) -> Table:
    """Rows of the uncut network first, where it was tried."""
    rows = [row("uncut", each) for each in entries(report, "precisions", "uncut")]
    rows += [row("cut", each) for each in entries(report, "precisions", "cut")]
    return Table(COLUMNS, tuple(rows), frozenset({1, 2, 3, 4, 5}))


def row(which: str, each: Mapping[str, object]) -> tuple[str, ...]:
    name = f"{which}, {words(each.get('precision'))}"
    if each.get("refused"):
        return name, *[DASH] * 5, words(each["refused"])
    ratio, drop = read(each, "ratio"), each.get("drop")
    speed = f"{factor(read(ratio, 'value'))} ({interval(read(ratio, 'low'), read(ratio, 'high'), 3)})"
    meets = each.get("meets")
    remark = "" if meets is None else "meets the latency goal" if meets else "does not meet the latency goal"
    remark += ", and loses more than is allowed" if each.get("keeps") is False else ""
    return (
        name,
        milliseconds(read(each, "latency", "median_ms")),
        speed,
        percent(each.get("accuracy")),
        DASH if not isinstance(drop, (int, float)) else points(-drop),
        size(each.get("bytes")),
        remark,
    )


def recommended(report: Report) -> str:
    """A sentence; empty where only one precision was built."""
    name = read(report, "precisions", "recommended")
    return f"Recommended: {words(name)}: {words(read(report, 'precisions', 'because'))}." if name else ""
