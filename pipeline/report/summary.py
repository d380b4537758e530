"""The report in a handful of lines, for the end of a command."""

from collections.abc import Mapping
from typing import Any

from pipeline.report.content import comparison, doubts, headline
from pipeline.report.precisions import recommended
from pipeline.report.text import entries, milliseconds, percent, read, texts, words


def summarise(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(label, value) rows of plain text: what was asked, what came of it, what is in doubt, where it is."""
    head = headline(report)
    rows = [("Goal", f"{head.goal} on {head.target}: {head.verdict}")]
    for label, before, after, change in comparison(report).rows:
        rows.append((label, f"{before} -> {after}" + (f"   {change}" if change else "")))
    predicted, cut = read(report, "latency", "predicted_ms"), read(report, "accuracy", "cut")
    if predicted is not None:
        rows.append(("Predicted latency", milliseconds(predicted)))
    if cut is not None:
        rows.append(("Before recovery", percent(cut)))
    if sentence := recommended(report):
        rows.append(("Precision", sentence))
    rows += [("Missed", text) for text in texts(report, "failures")]
    rows += [("Doubt", text) for text in doubts(report)]
    rows += [("Engine", words(engine.get("path"))) for engine in entries(report, "engines")]
    return rows
