"""One file judged: refused in one line, or loaded and then computing what the file computes. All else is a failure."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from pipeline.graph.couple import couple
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.feeds import Feeds
from pipeline.graph.model import Model, load
from pipeline.graph.proof import outputs_agree, random_feeds
from targets.errors import BadInput

LONGEST_LINE = 1000
TOLERANCE = 1e-3  # constants are folded by another implementation than the one that runs them
MAX_FEED_ELEMENTS = 2**24


def judge(path: Path, tell: Callable[[str], None]) -> tuple[str, str]:
    """(verdict, detail); `tell` is called with the name of every phase that begins.

    Verdicts: "refused", "equal", "loaded" (nothing to compare with), and whatever begins with "FAILED".
    """
    tell("load")
    try:
        model = load(path)
        tell("couple")
        couple(model)
    except BadInput as error:
        line = str(error)
        fine = line.strip() and "\n" not in line and len(line) <= LONGEST_LINE and line.isprintable()
        return ("refused", line) if fine else ("FAILED: no clear line", repr(line[:2000]))
    return _compared(path, model, tell)


def _compared(path: Path, model: Model, tell: Callable[[str], None]) -> tuple[str, str]:
    tell("original")
    if sum(int(np.prod(shape)) for shape in model.bound.values()) > MAX_FEED_ELEMENTS:
        return "loaded", "inputs too large to run"
    feeds = random_feeds(model, 0)
    original = onnx.load(path)
    try:
        theirs = run_unoptimised(original, feeds)
    except BadInput as error:
        return "loaded", str(error)
    tell("normalised")
    try:
        ours = run_unoptimised(model.proto, feeds)
    except BadInput as error:
        return "FAILED: normalised does not run", str(error)
    tell("comparison")
    difference = _difference(ours, theirs)
    if difference <= TOLERANCE:
        return "equal", f"{difference:.1e}"
    if _overflows(theirs):
        return "loaded", "the original overflows, where rounding decides between a number and infinity"
    if not _repeatable(original, feeds, theirs):
        return "loaded", "the original gives other outputs every time"
    return "FAILED: other outputs", f"{difference:.1e}"


def _difference(ours: Feeds, theirs: Feeds) -> float:
    if any(np.asarray(value).dtype == object for value in theirs.values()):
        return 0.0 if [type(v) for v in ours.values()] == [type(v) for v in theirs.values()] else float("inf")
    if any(ours[name].dtype != theirs[name].dtype for name in theirs):
        return float("inf")
    return outputs_agree(ours, theirs)


def _overflows(outputs: Feeds) -> bool:
    floats = [v.astype(np.float64) for v in outputs.values() if np.asarray(v).dtype.kind == "f"]
    return any(bool(np.any(np.abs(v[np.isfinite(v)]) > 1e30)) for v in floats)


def _repeatable(original: onnx.ModelProto, feeds: Feeds, outputs: Feeds) -> bool:
    return all(_difference(run_unoptimised(original, feeds), outputs) <= TOLERANCE for _ in range(3))


def judge_bytes(data: bytes, tell: Callable[[str], None]) -> tuple[str, str]:
    with tempfile.TemporaryDirectory(prefix="cutback-fuzz-") as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(data)
        return judge(path, tell)
