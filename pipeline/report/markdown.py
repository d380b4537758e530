"""The report as GitHub-flavoured Markdown, for a job summary."""

from collections.abc import Mapping
from typing import Any

from pipeline.report import content, predictions
from pipeline.report.content import Table
from pipeline.report.kernels import kernel_table
from pipeline.report.precisions import precisions, recommended
from pipeline.report.text import read, texts

LONG = 40  # rows; longer tables fold

SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]<>|#~!$"} | {"&": "&amp;", "\n": " ", "\r": " "})


def to_markdown(report: Mapping[str, Any]) -> str:
    head = content.headline(report)
    mark = {True: "✅", False: "❌", None: "➖"}[head.met]
    parts = [f"# {escape(head.model)}: {escape(head.goal)} on {escape(head.target)} {mark} {head.verdict}"]
    parts.append(_table(content.comparison(report)))
    if failures := texts(report, "failures"):
        parts.append("## Missed\n\n" + "\n".join(f"- {escape(text)}" for text in failures))
    if doubts := content.doubts(report):
        parts.append("## Doubts\n\n" + "\n".join(f"- {escape(text)}" for text in doubts))
    sections = (
        ("Predicted beside measured", predictions.rounds(report), predictions.heldout(report)),
        ("Rounds of score, cut and recover", predictions.cuts(report), ""),
        ("Sweep", predictions.sweep(report), ""),
        ("Precisions", precisions(report), recommended(report)),
        ("Accuracy", content.accuracy(report), ""),
        ("Widths", content.widths(report), ""),
        ("Kernels", kernel_table(report), "As the runtime's profiler timed them, its own cost per kernel included."),
        ("Recovery", content.recovery(report), ""),
        ("Importance", content.importance(report), ""),
        ("Stairs", content.stairs(report), ""),
        ("Checks", content.checks(report), ""),
        ("Engines", content.engines(report), ""),
        ("Device", content.device(report), ""),
    )
    for title, table, note in sections:
        if table or note:
            parts.append("\n\n".join(part for part in (f"## {title}", escape(note), _fold(table)) if part))
    if command := read(report, "command"):
        parts.append(f"## Reproduce\n\n{_code(str(command))}")
    parts.append(f"_cutback {escape(head.version)}, {escape(head.created)}_".replace(" ,", ","))
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return text.translate(SPECIAL)


def _table(table: Table) -> str:
    if not table:
        return ""
    rule = ["---:" if column in table.numeric else ":---" for column in range(len(table.columns))]
    head, *rows = ([escape(cell) or " " for cell in row] for row in (table.columns, *table.rows))
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def _fold(table: Table) -> str:
    if len(table.rows) <= LONG:
        return _table(table)
    return f"<details><summary>{len(table.rows)} rows</summary>\n\n{_table(table)}\n\n</details>"


def _code(text: str) -> str:
    """A fenced block; the fence is longer than any run of backticks inside."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}console\n{text}\n{fence}"
