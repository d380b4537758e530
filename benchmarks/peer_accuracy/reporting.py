"""Step `report`: measured latency against accuracy, and how much faster ours is where accuracy is equal."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.peer_accuracy.points import NAMES, Point, cut_points
from benchmarks.peer_accuracy.timing import REWRITTEN, UNCUT
from pipeline.workspace import write_json
from targets.errors import BadInput

IMAGES = 10_000
# What ours is compared with. "Best rounding" may take either rounding at every accuracy, whichever is faster there.
RIVALS: Mapping[str, tuple[str, ...]] = {
    "its defaults": ("peer",),
    "its best rounding": ("peer8", "peer16"),
}


@dataclass(frozen=True)
class Result:
    """One finished network; `accuracy` in per cent of the test images."""

    network: str
    name: str
    method: str
    ms: float
    interval_ms: tuple[float, float]
    speed_up: tuple[float, float, float]
    accuracy: float
    before_recovery: float | None
    flops_left: float


@dataclass(frozen=True)
class Compared:
    """Theirs / ours, in latency at our accuracy; None with the reason where their curve does not reach it."""

    network: str
    name: str
    rival: str
    ratio: float | None
    low: float | None
    high: float | None
    because: str


def report(work: Path, networks: Sequence[str], asked: Sequence[Point]) -> None:
    results = [result for network in networks for result in read(work, network, asked)]
    compared = [row for suffix in ("", REWRITTEN) for row in compare(results, suffix)]
    summary = means(compared)
    write_json(
        work / "report.json",
        {"results": [asdict(row) for row in results], "compared": [asdict(row) for row in compared], "means": summary},
    )
    for line in (*table(results), "", *verdicts(compared, summary)):
        print(line)
    for network in networks:
        draw([result for result in results if result.network == network], work / f"{network}.svg")
    print(f"\nWritten: {work / 'report.json'}, {', '.join(f'{network}.svg' for network in networks)}")


def read(work: Path, network: str, asked: Sequence[Point]) -> list[Result]:
    """The uncut network and every point that is timed and tested, the peer's also with our exact rewrites."""
    folder = work / network
    for file, step in (("timing.json", "time"), ("accuracy.json", "accuracy")):
        if not (folder / file).exists():
            raise BadInput(f"{folder / file}: no such file. Run the step `{step}` first.")
    rows = json.loads((folder / "timing.json").read_text(encoding="utf-8"))["rows"]
    accuracy = json.loads((folder / "accuracy.json").read_text(encoding="utf-8"))["value"]
    found = [_result(network, name, UNCUT, rows, accuracy, None, 1.0) for name in (UNCUT, UNCUT + REWRITTEN)]
    for point in cut_points([point for point in asked if point.network == network]):
        if point.done("accuracy.json") and point.name in rows:
            tested, left = point.read("accuracy.json"), point.read("cut.json")["flops_left"]
            found += [
                _result(
                    network, point.name + suffix, point.method + suffix, rows, tested["value"],
                    tested["before_recovery"], left,
                )
                for suffix in ("", REWRITTEN)
                if point.name + suffix in rows
            ]  # fmt: skip
    return found


def frontier(results: Sequence[Result]) -> list[Result]:
    """Those that no other is both faster and more accurate than; fastest first."""
    best: list[Result] = []
    for result in sorted(results, key=lambda each: (each.ms, -each.accuracy)):
        if not best or result.accuracy > best[-1].accuracy:
            best.append(result)
    return best


def latency_at(accuracy: float, curve: Sequence[Result]) -> float | None:
    """Milliseconds by linear interpolation between neighbours of a frontier; None outside it."""
    if len(curve) == 1 and curve[0].accuracy == accuracy:
        return curve[0].ms
    for faster, slower in pairwise(curve):
        if faster.accuracy <= accuracy <= slower.accuracy:
            share = (accuracy - faster.accuracy) / (slower.accuracy - faster.accuracy)
            return faster.ms + share * (slower.ms - faster.ms)
    return None


def compare(results: Sequence[Result], suffix: str) -> list[Compared]:
    """Each of our points with each rival; `suffix` REWRITTEN: theirs after our exact rewrites. Their curve ends at the
    uncut network."""
    rows = []
    for ours in (result for result in results if result.method == "ours"):
        for rival, methods in RIVALS.items():
            allowed = {UNCUT + suffix, *(method + suffix for method in methods)}
            own = [r for r in results if r.network == ours.network and _kind(r) in allowed]
            rows.append(_compare(ours, rival + (" and our rewrites" if suffix else ""), frontier(own)))
    return rows


def standard_error(accuracy: float) -> float:
    """Of a share of IMAGES, in per cent."""
    return 100 * math.sqrt(accuracy / 100 * (1 - accuracy / 100) / IMAGES)


def means(compared: Sequence[Compared]) -> dict[str, dict[str, Any]]:
    """Geometric means by rival, over all networks and for each, of the ratios that are given."""
    found: dict[str, dict[str, Any]] = {}
    for rival in dict.fromkeys(row.rival for row in compared):
        own = [row for row in compared if row.rival == rival]
        for network in ("all", *dict.fromkeys(row.network for row in own)):
            ratios = [row.ratio for row in own if row.ratio is not None and network in ("all", row.network)]
            mean = math.exp(math.fsum(map(math.log, ratios)) / len(ratios)) if ratios else None
            found.setdefault(rival, {})[network] = {"mean": mean, "points": len(ratios)}
    return found


def table(results: Sequence[Result]) -> list[str]:
    lines = ["network   point              FLOPs left  ms [99 %]                 speed-up             top-1 (before)"]
    for row in results:
        before = "" if row.before_recovery is None else f" ({row.before_recovery:.2f})"
        value, low, high = row.speed_up
        lines.append(
            f"{row.network:<9} {row.name:<18} {row.flops_left:>10.3f}  "
            f"{row.ms:.4f} [{row.interval_ms[0]:.4f}, {row.interval_ms[1]:.4f}]  "
            f"{value:.3f}x [{low:.3f}, {high:.3f}]  {row.accuracy:.2f}{before}"
        )
    return lines


def verdicts(compared: Sequence[Compared], summary: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [
        "Theirs / ours in latency at our accuracy, by linear interpolation along the points of theirs that no other of",
        "theirs beats, the uncut network among them. In brackets: with our accuracy one binomial standard error of the",
        "test set lower and higher ('-' past their curve's end). One seed each.",
    ]
    for row in compared:
        if row.ratio is None:
            lines.append(f"  {row.network} {row.name} and {row.rival}: not given, {row.because}")
        else:
            ends = ", ".join("-" if end is None else f"{end:.3f}" for end in (row.low, row.high))
            lines.append(f"  {row.network} {row.name} and {row.rival}: {row.ratio:.3f}x [{ends}]")
    for rival, by_network in summary.items():
        parts = [
            f"{network}: {each['mean']:.3f}x ({each['points']} points)" if each["mean"] else f"{network}: none"
            for network, each in by_network.items()
        ]
        lines.append(f"Geometric mean over {rival}: {'; '.join(parts)}")
    return lines


def draw(results: Sequence[Result], path: Path) -> None:
    """Latency against accuracy, a line a method, the uncut network by itself."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    for method in dict.fromkeys(result.method for result in results if result.method.removesuffix(REWRITTEN) in NAMES):
        own = sorted((result for result in results if result.method == method), key=lambda each: each.ms)
        plain = method.removesuffix(REWRITTEN)
        axes.errorbar(
            [each.ms for each in own],
            [each.accuracy for each in own],
            yerr=[standard_error(each.accuracy) for each in own],
            marker="o",
            markerfacecolor=None if plain == method else "white",
            capsize=2,
            color=f"C{list(NAMES).index(plain)}",
            linestyle="-" if plain == method else ":",
            label=NAMES[plain] + ("" if plain == method else ", our rewrites"),
        )
    for result in results:
        if result.name == UNCUT:
            axes.plot([result.ms], [result.accuracy], "k*", markersize=12, label="uncut")
    axes.set_xlabel("measured latency, ms")
    axes.set_ylabel("top-1 on the test images, %")
    axes.set_title(results[0].network if results else "")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def _compare(ours: Result, rival: str, curve: Sequence[Result]) -> Compared:
    error = standard_error(ours.accuracy)
    middle, low, high = (latency_at(ours.accuracy + shift, curve) for shift in (0.0, -error, error))
    ratio, least, most = (None if value is None else value / ours.ms for value in (middle, low, high))
    why = ""
    if ratio is None:
        side = "above its most accurate" if ours.accuracy > curve[-1].accuracy else "below its least accurate"
        end = curve[-1] if ours.accuracy > curve[-1].accuracy else curve[0]
        why = (
            f"{ours.accuracy:.2f} % at {ours.ms:.4f} ms lies {side} point on the curve, "
            f"{end.name}: {end.accuracy:.2f} % at {end.ms:.4f} ms"
        )
    return Compared(ours.network, ours.name, rival, ratio, least, most, why)


def _kind(result: Result) -> str:
    return result.name if result.method == UNCUT else result.method


def _result(
    network: str,
    name: str,
    method: str,
    rows: Mapping[str, Any],
    accuracy: float,
    before: float | None,
    flops_left: float,
) -> Result:
    row = rows[name]
    speed_up = row["speed_up"]
    return Result(
        network, name, method, row["ms"], (row["interval_ms"][0], row["interval_ms"][1]),
        (speed_up["value"], speed_up["low"], speed_up["high"]), accuracy, before, flops_left,
    )  # fmt: skip
