"""Predicted beside measured: the plans that were tried, the rounds, the sweep, and what predictions are worth."""

from typing import Any

from pipeline.report.content import Report, Table, scientific
from pipeline.report.text import (
    DASH,
    as_float,
    count,
    entries,
    milliseconds,
    number,
    percent,
    read,
    share,
    with_interval,
    words,
)

PREDICTED_AND_MEASURED = ("predicted", "measured")


def rounds(report: Report) -> Table:
    """Predicted beside measured."""
    rows = tuple(
        (
            str(index),
            milliseconds(read(entry, "budget_ms")),
            *_predicted_and_measured(entry),
            error(read(entry, "predicted_ms"), read(entry, "measured_ms")),
        )
        for index, entry in enumerate(entries(report, "latency", "rounds"), 1)
    )
    columns = ("plan", "budget", *PREDICTED_AND_MEASURED, "prediction off by")
    return Table(columns, rows, frozenset(range(len(columns))))


def _predicted_and_measured(entry: Any) -> tuple[str, str]:
    return (
        with_interval(*(read(entry, f"predicted_{key}ms") for key in ("", "low_", "high_"))),
        with_interval(read(entry, "measured_ms"), read(entry, "low_ms"), read(entry, "high_ms")),
    )


def cuts(report: Report) -> Table:
    """Every round of score, cut and recover, where there was more than one."""
    found = entries(report, "cuts")
    rows = tuple(
        (
            str(number_),
            words(cut.get("goal")),
            *_predicted_and_measured(read(cut, "latency")),
            percent(cut.get("accuracy_cut")),
            percent(cut.get("accuracy")),
            count(cut.get("flops")),
            count(cut.get("params")),
            scientific(read(cut, "proof", "relative_error")),
        )
        for number_, cut in enumerate(found, 1)
    )
    columns = (
        "round", "goal", *PREDICTED_AND_MEASURED, "accuracy, cut", "recovered", "multiply-adds", "parameters",
        "proof within",
    )  # fmt: skip
    return Table(columns, rows if len(found) > 1 else (), frozenset(range(len(columns))))


def sweep(report: Report) -> Table:
    """Every budget of the sweep, solved."""
    points_ = entries(report, "sweep", "points")
    known = [
        key for key in ("measured_ms", "accuracy") if any(as_float(point.get(key)) is not None for point in points_)
    ]
    rows = []
    for point in points_:
        reached = as_float(point.get("predicted_ms")) is not None
        least = f"out of reach: at least {milliseconds(point.get('least_ms'))}"
        cells = [
            words(point.get("allocator")),
            milliseconds(point.get("budget_ms")),
            share(point.get("kept")),
            with_interval(*(point.get(key) for key in ("predicted_ms", "low_ms", "high_ms"))) if reached else least,
        ]
        if "measured_ms" in known:
            cells.append(with_interval(*(point.get(f"measured_{key}ms") for key in ("", "low_", "high_"))))
        if "accuracy" in known:
            cells.append(percent(point.get("accuracy")))
        rows.append((*cells, count(point.get("flops")), count(point.get("params")), share(point.get("gap"))))
    columns = ["allocator", "budget", "importance kept", "predicted"]
    columns += ["measured"] if "measured_ms" in known else []
    columns += ["accuracy before recovery"] if "accuracy" in known else []
    columns += ["multiply-adds", "parameters", "gap"]
    return Table(tuple(columns), tuple(rows), frozenset(range(1, len(columns))))


def error(predicted: Any, measured: Any) -> str:
    expected, found = as_float(predicted), as_float(measured)
    if expected is None or not found:
        return DASH
    off = 100 * (expected / found - 1)
    return ("+" if off > 0 else "") + number(off, 2, " %")


def heldout(report: Report) -> str:
    """How well latency is predicted for cuts that were not learned from: a sentence for each kind of width."""
    found = read(report, "latency", "heldout")
    said = []
    alone = ", from end-to-end times alone," if read(found, "kernels_told") is False else ""
    for prefix, where in (("", "at right edges"), ("anywhere_", "at any widths")):
        median = read(found, f"{prefix}median_error")
        if as_float(median) is not None:
            said.append(
                f"On {words(read(found, f'{prefix}plans'))} held-out cuts {where} the prediction{alone} was off by "
                f"{share(median)} at the median and {share(read(found, f'{prefix}p95_error'))} at the 95th percentile."
            )
    return " ".join(said)
