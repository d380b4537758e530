"""The sweep's plots: what each budget keeps over what it takes, predicted and measured beside each other."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.report.figures import Picture
from pipeline.report.svg import AFTER, BEFORE, INK, MUTED, WARN, draw
from pipeline.report.text import as_float, entries, read, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = {"width": 480, "height": 280}
STYLES = ((AFTER, "o"), (WARN, "s"), (MUTED, "^"), (INK, "v"), (BEFORE, "D"))  # of allocators, in the order asked for
Report = Mapping[str, Any]


def sweep_pictures(report: Report) -> list[Picture]:
    """Kept importance, and accuracy where it is known, over latency."""
    found = []
    for key, title in (("kept", "importance kept, %"), ("accuracy", "accuracy before recovery, %")):
        points = [point for point in entries(report, "sweep", "points") if as_float(point.get(key)) is not None]
        if points:
            alt = f"{title} over latency in ms, predicted and measured"
            found.append(Picture(title, "over ms", draw(f"sweep-{key}", alt, _plot(report, points, key), **SIZE)))
    return found


def _plot(report: Report, points: Sequence[Report], key: str) -> Any:
    scale = 100.0 if key == "kept" else 1.0
    names = list(dict.fromkeys(words(point.get("allocator")) for point in points))

    def plot(axes: "Axes") -> None:
        for turn, name in enumerate(names):
            colour, marker = STYLES[turn % len(STYLES)]
            own = [point for point in points if words(point.get("allocator")) == name]
            _predicted(axes, own, key, scale, colour, name)
            _measured(axes, own, key, scale, colour, marker)
        _chosen(axes, report, key, scale)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("ms")
        if len(names) > 1:
            axes.legend(frameon=False)

    return plot


def _predicted(axes: "Axes", own: Sequence[Report], key: str, scale: float, colour: str, name: str) -> None:
    line = sorted(
        (time, scale * value)
        for point in own
        if (time := as_float(point.get("predicted_ms"))) is not None and (value := as_float(point.get(key))) is not None
    )
    if line:
        axes.plot(*zip(*line, strict=True), color=colour, linewidth=1.2, marker="D", markersize=4, label=name)


def _measured(axes: "Axes", own: Sequence[Report], key: str, scale: float, colour: str, marker: str) -> None:
    for point in own:
        time, value = as_float(point.get("measured_ms")), as_float(point.get(key))
        low, high = (as_float(point.get(f"measured_{end}_ms")) for end in ("low", "high"))
        if time is None or value is None:
            continue
        if low is not None and high is not None:
            axes.plot([low, high], [scale * value] * 2, color=colour, linewidth=2)
        axes.plot([time], [scale * value], marker, color=colour, markersize=7)


def _chosen(axes: "Axes", report: Report, key: str, scale: float) -> None:
    """The plan that a compression chose: a ring where it was measured."""
    time, value = (as_float(read(report, "sweep", "chosen", name)) for name in ("measured_ms", key))
    if time is not None and value is not None:
        axes.plot([time], [scale * value], "o", markerfacecolor="none", markeredgecolor=INK, markersize=12)
