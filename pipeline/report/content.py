"""What the report says, as tables of text: the same for every form it takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from pipeline.report.text import (
    DASH,
    as_float,
    count,
    duration,
    entries,
    factor,
    floats,
    interval,
    milliseconds,
    number,
    percent,
    points,
    read,
    share,
    size,
    texts,
    words,
)

Report = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Cells of text; `numeric` are the columns that align on the right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.rows)


@dataclass(frozen=True)
class Headline:
    model: str
    goal: str
    target: str
    met: bool | None
    created: str
    version: str

    swept: bool = False

    @property
    def verdict(self) -> str:
        if self.swept:
            return "sweep"
        return "not judged" if self.met is None else "met" if self.met else "not met"


def headline(report: Report) -> Headline:
    met = read(report, "met")
    return Headline(
        PurePath(str(read(report, "model", "path") or "model")).name,
        words(read(report, "goal") or _budgets(report)),
        words(read(report, "target", "name")),
        met if isinstance(met, bool) else None,
        str(read(report, "created") or ""),
        str(read(report, "cutback") or ""),
        swept=read(report, "goal") is None and bool(entries(report, "sweep", "points")),
    )


def _budgets(report: Report) -> str | None:
    """What a sweep was asked for, in place of a goal."""
    asked = texts(report, "sweep", "asked")
    return f"latency<={','.join(asked)}" if asked else None


def doubts(report: Report) -> list[str]:
    """Every doubt that travels with a number, each once."""
    found = texts(report, "doubts")
    for side in ("before", "after"):
        found += [
            f"{side}: {text}" for text in texts(report, "latency", side, "doubts") if not any(text in t for t in found)
        ]
    verdict = read(report, "latency", "ratio", "verdict")
    if verdict in ("slower", "inconclusive"):
        found.append(f"The measured comparison is {verdict}: no speed-up may be claimed from it.")
    inexact = read(report, "proof", "inexact_groups")
    if as_float(inexact):
        found.append(
            f"Not exact where a norm or softmax runs across the cut ({words(inexact)} of the groups): proved equal to "
            "the original whose norms leave the removed channels out, not to one whose channels are zero."
        )
    return found


def comparison(report: Report) -> Table:
    """Before beside after, one row a quantity."""
    latency, accuracy = read(report, "latency"), read(report, "accuracy")
    rows = []
    for name, key in (("Latency, median", "median_ms"), ("Latency, p90", "p90_ms"), ("Latency, p99", "p99_ms")):
        pair = [read(latency, side, key) for side in ("before", "after")]
        if any(as_float(v) is not None for v in pair) if key == "median_ms" else all(as_float(v) for v in pair):
            rows.append(
                (name, *map(milliseconds, pair), speed_up(report) if key == "median_ms" else quotient(pair[0], pair[1]))
            )
    ends = [[read(latency, side, end) for end in ("low_ms", "high_ms")] for side in ("before", "after")]
    if any(as_float(low) is not None for low, _ in ends):
        rows.append((f"{confidence(report)} interval", *(interval(low, high, unit=" ms") for low, high in ends), ""))
    for name, key in (("Multiply-adds", "flops"), ("Parameters", "params")):
        pair = [read(report, key, side) for side in ("before", "after")]
        if any(as_float(value) is not None for value in pair):
            rows.append((name, *map(count, pair), quotient(pair[0], pair[1], " fewer")))
    memory = [read(report, "memory", side) for side in ("before", "after")]
    if all(as_float(value) is not None for value in memory):
        rows.append(("Peak memory", *map(size, memory), quotient(memory[0], memory[1], " less")))
    if accuracy:
        pair = [read(accuracy, side) for side in ("before", "after")]
        rows.append((accuracy_name(report), *map(percent, pair), points(change(report))))
    return Table(("", "before", "after", "change"), tuple(rows), frozenset({1, 2, 3}))


def speed_up(report: Report) -> str:
    """The measured ratio with its interval and verdict."""
    ratio = read(report, "latency", "ratio")
    if as_float(read(ratio, "value")) is None:
        return DASH
    ends = interval(read(ratio, "low"), read(ratio, "high"), 3)
    return f"{factor(ratio['value'])} ({ends}), {words(read(ratio, 'verdict'))}{quick_mark(ratio)}"


def quick_mark(ratio: Any) -> str:
    """Behind a verdict that rests on short sessions."""
    return " (quick)" if read(ratio, "quick") is True else ""


def quotient(before: Any, after: Any, what: str = "") -> str:
    up, down = as_float(before), as_float(after)
    return DASH if up is None or not down else factor(up / down) + what


def confidence(report: Report) -> str:
    known = as_float(read(report, "latency", "ratio", "confidence"))
    return f"{100 * (known or 0.99):g} %"


def accuracy_name(report: Report) -> str:
    metric, samples = read(report, "accuracy", "metric"), read(report, "accuracy", "count")
    return words(metric) + (f" on {samples} samples" if as_float(samples) is not None else "")


def change(report: Report) -> float | None:
    """Accuracy after less accuracy before, in points."""
    drop = as_float(read(report, "accuracy", "drop"))
    return None if drop is None else 0.0 - drop


def accuracy(report: Report) -> Table:
    if not read(report, "accuracy"):
        return Table((), ())
    before = as_float(read(report, "accuracy", "before"))
    rows = []
    for name, key in (("uncut", "before"), ("cut, before recovery", "cut"), ("after recovery", "after")):
        value = as_float(read(report, "accuracy", key))
        away = DASH if value is None or before is None or key == "before" else points(value - before)
        rows.append((name, percent(value), away))
    return Table((accuracy_name(report), "accuracy", "change"), tuple(rows), frozenset({1, 2}))


def widths(report: Report) -> Table:
    rows = tuple(
        (
            words(group.get("id")),
            words(group.get("width")),
            words(group.get("kept")),
            kept_share(group),
            ", ".join(remarks(group)),
        )
        for group in entries(report, "groups")
    )
    return Table(("group", "before", "after", "kept", ""), rows, frozenset({1, 2, 3}))


def kept_share(group: Report) -> str:
    width, kept = as_float(group.get("width")), as_float(group.get("kept"))
    return DASH if not width or kept is None else f"{100 * kept / width:.0f} %"


def remarks(group: Report) -> list[str]:
    found = []
    if as_float(group.get("kept")) == 0:
        found.append("branch vanished")
    if group.get("locked"):
        found.append(f"locked: {group['locked']}")
    if group.get("exact") is False:
        found.append("not exact: a norm or softmax runs over it")
    if (as_float(group.get("step")) or 1) > 1:
        found.append(f"in steps of {words(group['step'])}")
    return found


def importance(report: Report) -> Table:
    """Scores of the groups that were scored."""
    rows = []
    for group in entries(report, "groups"):
        scores = sorted(value for value in floats(group, "importance") if value == value)
        if scores:
            middle = scores[len(scores) // 2]
            shown = (number(value) for value in (scores[0], middle, scores[-1]))
            rows.append((words(group.get("id")), str(len(scores)), *shown))
    return Table(("group", "channels", "least", "median", "greatest"), tuple(rows), frozenset({1, 2, 3, 4}))


def stairs(report: Report) -> Table:
    rows = tuple(
        (words(stair.get("title")), words(stair.get("op")), words(stair.get("edges")), words(stair.get("chosen")))
        for stair in entries(report, "stairs")
    )
    return Table(("stairs of", "kind", "candidate widths", "chosen"), rows, frozenset({3}))


def recovery(report: Report) -> Table:
    rows = tuple(
        (
            words(epoch.get("epoch")),
            number(epoch.get("loss"), 4),
            percent(epoch.get("accuracy")),
            number(epoch.get("learning_rate"), 2),
            duration(epoch.get("seconds")),
        )
        for epoch in entries(report, "recovery", "epochs")
    )
    return Table(("epoch", "loss", "accuracy", "learning rate", "took"), rows, frozenset(range(5)))


def engines(report: Report) -> Table:
    rows = tuple(
        (
            words(engine.get("path")),
            words(engine.get("runtime")),
            words(engine.get("precision")),
            size(engine.get("bytes")),
            words(engine.get("sha256")),
        )
        for engine in entries(report, "engines")
    )
    return Table(("engine", "runtime", "precision", "size", "sha256"), rows, frozenset({3}))


def checks(report: Report) -> Table:
    """How the cut was chosen and what was proved of it."""
    proof, solver, criterion = (read(report, key) for key in ("proof", "solver", "criterion"))
    rows = []
    if proof:
        rows.append(
            (
                "Cut equals the masked original",
                ", ".join(
                    f"{label} {scientific(read(proof, key))}"
                    for label, key in (("relative error", "relative_error"), ("tolerance", "tolerance"))
                ),
            )
        )
        exact = f"{words(read(proof, 'exact_groups'))} exact, {words(read(proof, 'inexact_groups'))} not exact"
        rows.append(("Groups", exact))
        dropped = as_float(read(proof, "dropped_constants_difference"))
        if dropped is not None:
            rows.append(
                ("Constants of vanished branches", f"dropped before training; outputs moved by {share(dropped)}")
            )
    if read(report, "rewrites", "forced"):
        rows.append(
            ("Exact rewrites", "parameter-free shortcuts as convolutions: else the runtime refuses the network")
        )
    elif read(report, "rewrites", "used"):
        alone, low, high = (as_float(read(report, "rewrites", "speed_up", key)) for key in ("value", "low", "high"))
        if alone is not None and low is not None and high is not None:
            text = f"parameter-free shortcuts as convolutions: {alone:.2f}x [{low:.2f}, {high:.2f}] of the speed-up"
            rows.append(("Exact rewrites", text))
    if read(report, "batchnorm"):
        rows.append(("Batch-norm", batchnorm(report)))
    if solver:
        how = [f"{words(read(solver, 'allocator'))} allocation by {words(read(solver, 'name'))}"]
        how += [words(read(solver, "status"))] if read(solver, "status") else []
        if as_float(read(solver, "gap")) is not None:
            how.append(f"at most {share(solver['gap'])} from the best")
        if as_float(read(solver, "seconds")) is not None:
            how.append(f"in {duration(solver['seconds'])}")
        rows.append(("Widths", ", ".join(how)))
    if criterion:
        rows.append(("Importance", words(read(criterion, "name"))))
        rows += [
            (label, words(read(criterion, key)))
            for label, key in (("Normalisation", "normalisation"), ("Cost regularisation", "regularisation"))
            if read(criterion, key)
        ]
    return Table(("", ""), tuple(rows))


def batchnorm(report: Report) -> str:
    """What became of batch-norm that the exporter had folded."""
    found = read(report, "batchnorm")
    if not as_float(read(found, "put_back")):
        return f"as given: {words(read(found, 'because'))}"
    return (
        f"put back after {words(found['put_back'])} convolutions, measured on {words(read(found, 'samples'))} samples "
        f"(relative error {scientific(read(found, 'relative_error'))}), trained, and folded again "
        f"({scientific(read(found, 'folded_relative_error'))})"
    )


def scientific(value: Any) -> str:
    known = as_float(value)
    return DASH if known is None else f"{known:.1e}".replace("-", "\N{NON-BREAKING HYPHEN}")


def device(report: Report) -> Table:
    """Target, device and stack, as the device itself reports them."""
    rows = []
    model = read(report, "model")
    if model:
        inputs = [
            f"{e.get('name')} {words(e.get('dtype'))} [{words(e.get('shape'))}]" for e in entries(model, "inputs")
        ]
        rows += [("Model", words(read(model, "path"))), ("Model sha256", words(read(model, "sha256")))]
        rows += [("Inputs", "; ".join(inputs))] if inputs else []
    for part, label in (("target", "Target"), ("device", "")):
        found = read(report, part)
        if not isinstance(found, Mapping):
            continue
        for key, value in found.items():
            if isinstance(value, Mapping):
                title = str(key).replace("_", " ").capitalize()
                rows += [(f"{title}: {str(k).replace('_', ' ')}", words(v)) for k, v in value.items()]
            else:
                rows.append((f"{label} {str(key).replace('_', ' ')}".strip().capitalize(), words(value)))
    return Table(("", ""), tuple(rows))
