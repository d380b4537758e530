"""One staircase, drawn: on the terminal, and into a file."""

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.text import Text

from pipeline.cli.db_tables import kernel_text
from pipeline.cli.tables import console, number, table
from targets.errors import BadInput

if TYPE_CHECKING:
    from targets.profiles.families import Family, Step
    from targets.profiles.rows import Row

BAR = 48  # columns of the longest bar
FORMATS = (".png", ".svg", ".pdf")


def times_of(rows: "Mapping[str, Sequence[Row]]") -> "Callable[[Row], float]":
    """How rows of several sessions are compared: where a gauge ran beside each, all at the speed that the device
    usually had; else as they were timed."""
    gauges: list[Sequence[float]] = [row.observed.get("gauge_ns") or () for several in rows.values() for row in several]
    if not all(gauges):
        return lambda row: row.mean_ns
    from pipeline.latency.keys import in_gauges_of
    from targets.kernels import fastest

    usual_ns = statistics.median(fastest(gauge) for gauge in gauges)
    return lambda row: in_gauges_of(row) * usual_ns


def edges_of(steps: "Sequence[Step]") -> tuple[int, ...]:
    """The widths worth having: no larger one takes the same time."""
    from pipeline.latency.stairs import right_edges

    return right_edges([step.width for step in steps], [step.time_ns for step in steps])


def print_staircase(family: "Family", steps: "Sequence[Step]", edges: Sequence[int]) -> None:
    """A bar for each width, all from zero."""
    out = console()
    block = "█" if out.encoding.lower().startswith("utf") else "#"
    longest = max(step.time_ns for step in steps)
    columns = (family.varies, "us", "rows", "")
    drawn = table(f"{family.id}  {kernel_text(family.op)}", columns, (), left=0)
    drawn.columns[-1].justify = "left"
    for step in steps:
        bar = Text(block * max(1, round(BAR * step.time_ns / longest)), style="green" if step.width in edges else "dim")
        mark = Text("  right edge", style="green") if step.width in edges else Text()
        drawn.add_row(str(step.width), number(step.time_ns / 1e3), number(step.rows), bar + mark)
    out.print(drawn)
    key = family.example
    where = [str(key.device.get("cpu", "")), str(key.stack.get("runtime", "")), str(key.stack.get("version", ""))]
    out.print(f"[dim]{escape(', '.join(filter(None, where)))}; timed {escape(str(key.method.get('place', '')))}[/dim]")


def draw(family: "Family", steps: "Sequence[Step]", edges: Sequence[int], path: Path) -> None:
    """Write the staircase as a picture, beside and then renamed. `BadInput` for a format that is none of FORMATS."""
    if path.suffix.lower() not in FORMATS:
        raise BadInput(f"{path} is no picture that can be drawn: name a file that ends in {', '.join(FORMATS)}.")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    widths, times = [step.width for step in steps], [step.time_ns / 1e3 for step in steps]
    good = [(width, time) for width, time in zip(widths, times, strict=True) if width in edges]
    axes.plot(widths, times, marker=".", color="0.55", label="timed")
    axes.plot(*zip(*good, strict=True), "o", color="tab:green", label="right edges: widths worth having")
    axes.set(xlabel=family.varies, ylabel="µs", title=wrapped(kernel_text(family.op)), xlim=(0, None), ylim=(0, None))
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
    save(figure, path)


def wrapped(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text.replace("$", r"\$"), 90))


def save(figure: Any, path: Path) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    kind = path.suffix.lower().removeprefix(".")
    undated = {"Date": None} if kind == "svg" else {"CreationDate": None} if kind == "pdf" else {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(beside, format=kind, metadata=undated)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
