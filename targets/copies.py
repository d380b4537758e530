"""Models as a runtime reads them: copies of what the user gave, kept for as long as a connection (host side)."""

import contextlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from targets.fitting import fitted
from targets.gauge import write_gauge
from targets.runtimes import Reads, facts_of

Lower = Callable[[Path, Path], None]  # (ONNX without free dimensions, output): what the runtime loads instead

GAUGE = "gauge.onnx"

MOST_COPIES = 8  # a profile cuts a network some dozens of times


class Copies:
    """`lower` compiles on the host, for runtimes that want it so. `at_end`: what is done when the connection ends."""

    def __init__(self, runtime: str, lower: Lower | None, at_end: contextlib.ExitStack) -> None:
        self._runtime = runtime
        self._lower = lower
        self._at_end = at_end
        self._made: dict[tuple[Any, ...], tuple[Path, tempfile.TemporaryDirectory[str]]] = {}
        self._gauge: Path | None = None

    def find(self, model: Path, reads: Reads, bound: Mapping[str, Sequence[int]] | None) -> Path:
        """The copy of an ONNX file; the same one until the file changes. `bound`: the shapes that its free dimensions
        get, for a runtime that has none."""
        key = (model.absolute(), model.stat().st_mtime_ns, json.dumps(bound, sort_keys=True))
        if key not in self._made:
            while len(self._made) >= MOST_COPIES:
                self._made.pop(next(iter(self._made)))[1].cleanup()
            folder = tempfile.TemporaryDirectory(prefix="cutback-fitted-")
            self._at_end.enter_context(folder)  # where it was not cleaned up before
            copy = fitted(model, reads, self._runtime, bound, Path(folder.name))
            if bound is not None and self._lower is not None:
                given, copy = copy, Path(folder.name, model.stem + facts_of(self._runtime).suffix)
                self._lower(given, copy)
            self._made[key] = (copy, folder)
        return self._made[key][0]

    def gauge(self) -> Path:
        """The gauge, as ONNX; written once, and not among the copies that make room for others."""
        if self._gauge is None:
            folder = self._at_end.enter_context(tempfile.TemporaryDirectory(prefix="cutback-gauge-"))
            self._gauge = write_gauge(Path(folder, GAUGE))
        return self._gauge
