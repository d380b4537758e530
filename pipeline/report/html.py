"""The report as one HTML page that needs nothing beside itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from pipeline.report import bars, content, curves, figures, predictions
from pipeline.report.kernels import kernel_table
from pipeline.report.precisions import precisions, recommended
from pipeline.report.text import (
    as_float,
    count,
    factor,
    interval,
    milliseconds,
    percent,
    points,
    read,
    short,
    texts,
    words,
)

TEMPLATE = Path(__file__).with_name("template.html.j2")


@dataclass(frozen=True)
class Tile:
    """A number to remember: what it is, its value, and its evidence. `tone` is good, bad or plain."""

    label: str
    value: str
    evidence: str
    tone: str = "plain"


def to_html(report: Mapping[str, Any]) -> str:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    kernels, other_kernels = bars.kernel_bars(report)
    widths, other_widths = bars.width_bars(report)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        head=content.headline(report),
        tiles=tiles(report),
        failures=texts(report, "failures"),
        doubts=content.doubts(report),
        comparison=content.comparison(report),
        latency=bars.latency_bars(report),
        confidence=content.confidence(report),
        sessions=read(report, "latency", "after", "sessions"),
        rounds=predictions.rounds(report),
        rounds_picture=figures.rounds_picture(report),
        heldout=predictions.heldout(report),
        cuts=predictions.cuts(report),
        sweep=curves.sweep_pictures(report),
        sweep_table=predictions.sweep(report),
        chosen=as_float(read(report, "sweep", "chosen", "kept")) is not None,
        kernels=kernels,
        kernel_table=kernel_table(report),
        other_kernels=other_kernels,
        widths=widths,
        width_table=content.widths(report),
        other_widths=other_widths,
        importance=figures.importance_pictures(report),
        importance_table=content.importance(report),
        stairs=figures.stairs_pictures(report),
        stairs_table=content.stairs(report),
        precisions=precisions(report),
        recommended=recommended(report),
        accuracy=content.accuracy(report),
        recovery=figures.recovery_pictures(report),
        recovery_table=content.recovery(report),
        checks=content.checks(report),
        engines=content.engines(report),
        device=content.device(report),
        command=read(report, "command"),
        short=short,
        svg=Markup,
    )


def tiles(report: Mapping[str, Any]) -> list[Tile]:
    """Speed-up, latency, accuracy and size, as far as they are known."""
    found = []
    ratio, latency = read(report, "latency", "ratio"), read(report, "latency")
    if as_float(read(ratio, "value")) is not None:
        verdict = words(read(ratio, "verdict"))
        ends = interval(read(ratio, "low"), read(ratio, "high"), 3)
        tone = {"faster": "good", "slower": "bad"}.get(verdict, "plain")
        evidence = f"{verdict}{content.quick_mark(ratio)}; {content.confidence(report)} interval {ends}"
        found.append(Tile("Speed-up, measured", factor(ratio["value"]), evidence, tone))
    before, after = (read(latency, side, "median_ms") for side in ("before", "after"))
    if as_float(after) is not None:
        ends = interval(read(latency, "after", "low_ms"), read(latency, "after", "high_ms"), unit=" ms")
        found.append(Tile("Latency, median", milliseconds(after), f"from {milliseconds(before)}; interval {ends}"))
    if as_float(read(report, "accuracy", "after")) is not None:
        was, now = (read(report, "accuracy", side) for side in ("before", "after"))
        evidence = f"from {percent(was)}, {points(content.change(report))}"
        found.append(Tile(content.accuracy_name(report), percent(now), evidence))
    for label, key in (("Multiply-adds", "flops"), ("Parameters", "params")):
        was, now = (read(report, key, side) for side in ("before", "after"))
        if as_float(now) is not None:
            found.append(Tile(label, count(now), f"from {count(was)}, {content.quotient(was, now, ' fewer')}"))
    return found
