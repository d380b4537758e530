"""The report's plots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.report.svg import AFTER, BEFORE, INK, LINE, draw
from pipeline.report.text import as_float, entries, floats, number, read, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 12  # small multiples of a kind; the rest is in the tables
POINTS = 240  # of a curve; more cannot be told apart at the size it is drawn
SMALL = {"width": 300, "height": 150}
LARGE = {"width": 440, "height": 230}


@dataclass(frozen=True)
class Picture:
    title: str
    note: str
    svg: str


def importance_pictures(report: Mapping[str, Any]) -> list[Picture]:
    """Scores of the groups that lose most channels, best first, the removed ones set apart."""
    scored = [group for group in entries(report, "groups") if floats(group, "importance")]
    cut = [group for group in scored if _removed(group)]
    chosen = sorted(cut or scored, key=_removed, reverse=True)[:MOST]
    return [_importance(index, group) for index, group in enumerate(g for g in scored if g in chosen)]


def _removed(group: Mapping[str, Any]) -> int:
    scores, kept = floats(group, "importance"), read(group, "kept_channels")
    return len(scores) - len(kept) if isinstance(kept, (list, tuple)) else 0


def _importance(index: int, group: Mapping[str, Any]) -> Picture:
    scores = [value if value == value else 0.0 for value in floats(group, "importance")]
    listed = read(group, "kept_channels")
    kept = set(listed) if isinstance(listed, (list, tuple)) else set(range(len(scores)))
    stays = sorted((score for channel, score in enumerate(scores) if channel in kept), reverse=True)
    goes = sorted((score for channel, score in enumerate(scores) if channel not in kept), reverse=True)

    def plot(axes: "Axes") -> None:
        for values, start, colour in ((stays, 0, AFTER), (goes, len(stays), BEFORE)):
            if values:
                ranks, thinned = _thin(values, start)
                axes.fill_between(ranks, thinned, step="post", color=colour, linewidth=0)
        axes.axhline(0, color=LINE, linewidth=1)
        axes.set_xlim(0, len(scores))
        axes.yaxis.set_major_locator(_few_ticks())

    note = f"{len(stays)} of {len(scores)} kept"
    name = words(group.get("id"))
    return Picture(name, note, draw(f"importance{index}", f"Scores of {name}: {note}", plot, **SMALL))


def _thin(values: Sequence[float], start: int) -> tuple[list[float], list[float]]:
    """Ranks and values of a descending curve, closed on the right, at most POINTS of them."""
    stride = max(1, -(-len(values) // POINTS))
    picked = list(range(0, len(values), stride))
    return [start + float(i) for i in picked] + [float(start + len(values))], [values[i] for i in picked] + [values[-1]]


def stairs_pictures(report: Mapping[str, Any]) -> list[Picture]:
    """The staircases whose steps are tallest."""
    known = [stair for stair in entries(report, "stairs") if len(_steps(stair)) > 1]
    tallest = sorted(known, key=_height, reverse=True)[:MOST]
    return [_staircase(index, stair) for index, stair in enumerate(s for s in known if s in tallest)]


def _steps(stair: Mapping[str, Any]) -> list[tuple[float, float]]:
    pairs = zip(floats(stair, "widths"), floats(stair, "us"), strict=False)
    return sorted((width, time) for width, time in pairs if width == width and time == time)


def _height(stair: Mapping[str, Any]) -> float:
    times = [time for _, time in _steps(stair)]
    return max(times) - min(times)


def _staircase(index: int, stair: Mapping[str, Any]) -> Picture:
    steps = _steps(stair)
    edges = set(floats(stair, "edges"))
    chosen = as_float(stair.get("chosen"))
    at = [step for step in steps if step[0] == chosen]

    def plot(axes: "Axes") -> None:
        axes.plot(*zip(*steps, strict=True), color=BEFORE, linewidth=1.5, marker=".", markersize=4)
        good = [step for step in steps if step[0] in edges]
        if good:
            axes.plot(*zip(*good, strict=True), "o", color=AFTER, markersize=4)
        if chosen is not None:
            axes.axvline(chosen, color=AFTER, linewidth=1, linestyle=(0, (3, 2)))
        for width, time in at:
            axes.plot([width], [time], "o", color=AFTER, markersize=9)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.margins(x=0.04)
        axes.yaxis.set_major_locator(_few_ticks())

    note = "not chosen" if chosen is None else f"{words(chosen)} chosen"
    note += f", {number(at[0][1])} µs" if at else ""
    name = words(stair.get("title"))
    return Picture(name, note, draw(f"stairs{index}", f"Time over width of {name}: {note}", plot, **SMALL))


def rounds_picture(report: Mapping[str, Any]) -> str:
    """Predicted and measured latency of each plan that was tried, with its budget."""
    rounds = [e for e in entries(report, "latency", "rounds") if as_float(e.get("measured_ms")) is not None]
    if not rounds:
        return ""

    def plot(axes: "Axes") -> None:
        for turn, entry in enumerate(rounds, 1):
            budget, predicted, measured, low, high = (
                as_float(entry.get(f"{key}_ms")) for key in ("budget", "predicted", "measured", "low", "high")
            )
            if budget is not None:
                axes.plot([turn - 0.3, turn + 0.3], [budget] * 2, color=INK, linewidth=1.2, linestyle=(0, (3, 2)))
            if measured is None:
                continue
            least, most = (as_float(entry.get(f"predicted_{end}_ms")) for end in ("low", "high"))
            if least is not None and most is not None:
                axes.plot([turn - 0.1] * 2, [least, most], color=BEFORE, linewidth=2)
            if predicted is not None:
                axes.plot([turn - 0.1], [predicted], "D", color=BEFORE, markersize=7)
            if low is not None and high is not None:
                axes.plot([turn + 0.1] * 2, [low, high], color=AFTER, linewidth=2)
            axes.plot([turn + 0.1], [measured], "o", color=AFTER, markersize=7)
        axes.set_xticks(range(1, len(rounds) + 1))
        axes.set_xlim(0.4, max(len(rounds), 3) + 0.6)
        axes.margins(y=0.15)
        axes.set_xlabel("plan")
        axes.set_ylabel("ms")

    return draw("rounds", "Predicted beside measured latency per plan", plot, width=380, height=230)


def recovery_pictures(report: Mapping[str, Any]) -> list[Picture]:
    """Accuracy and loss over the epochs of recovery."""
    epochs = entries(report, "recovery", "epochs")
    pictures = []
    for key, title in (("accuracy", "accuracy on held-out samples, %"), ("loss", "loss")):
        curve = [
            (float(index), value)
            for index, epoch in enumerate(epochs, 1)
            if (value := as_float(epoch.get(key))) is not None
        ]
        if len(curve) > 1:
            pictures.append(Picture(title, "", draw(f"recovery-{key}", f"{title} by epoch", _curve(curve), **LARGE)))
    return pictures


def _curve(points: Sequence[tuple[float, float]]) -> Any:
    def plot(axes: "Axes") -> None:
        axes.plot(*zip(*points, strict=True), color=AFTER, linewidth=2, marker=".", markersize=6)
        axes.set_xlabel("epoch")
        axes.margins(y=0.12)
        axes.xaxis.set_major_locator(_few_ticks(8, whole=True))

    return plot


def _few_ticks(most: int = 4, *, whole: bool = False) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(most, integer=whole)


__all__ = ["Picture", "importance_pictures", "recovery_pictures", "rounds_picture", "stairs_pictures"]
