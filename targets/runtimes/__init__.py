"""The runtimes by name (device side). Adding one: a file here, a line in `RUNTIMES`, and the contract suite runs it."""

from __future__ import annotations

import abc
import importlib
from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence

from targets.errors import BadInput

if TYPE_CHECKING:  # numpy comes with a runtime: this module must import where there is none
    import numpy as np

Tensors = Mapping[str, "np.ndarray[Any, Any]"]

RUNTIMES = {  # name -> module with `start(threads) -> Runtime`; imported when asked for
    "onnxruntime": "targets.runtimes.onnxruntime",
}

JOINS = {  # name -> host-side module with `join(raw, graph, source, ...) -> kernels`; may import onnx
    "onnxruntime": "targets.runtimes.onnxruntime_kernels",
}


class Loaded(abc.ABC):
    """A model ready to run. Not for several threads at once."""

    @abc.abstractmethod
    def inputs(self) -> list[dict[str, Any]]:
        """`{"name", "shape", "dtype"}` of each input: dims are integers, symbols, or None; dtype is numpy's name."""

    @abc.abstractmethod
    def run(self, feeds: Tensors) -> dict[str, np.ndarray[Any, Any]]:
        """All outputs by name, owned by the caller. `BadInput` when the feeds do not fit."""

    @abc.abstractmethod
    def runner(self, shapes: Mapping[str, Sequence[int]]) -> Callable[[], object]:
        """One run on fixed random feeds, with as little around it as the runtime allows: what is timed."""


class Profiled(abc.ABC):
    """A model that is timed kernel by kernel as it runs. Its runs take longer than those of a `Loaded` one."""

    @abc.abstractmethod
    def run(self) -> object:
        """One run on the feeds."""

    @abc.abstractmethod
    def kernels(self, kept: Sequence[int]) -> list[dict[str, Any]]:
        """`{"name", "op", "output_shapes", "samples_ns"}` in the order of execution, one sample for each of the runs
        numbered in `kept` (the first was 0). Ends the profile: nothing may be called after it."""


class Runtime(abc.ABC):
    """An engine that runs models in this process. Opening it has imported it."""

    threads: int

    @abc.abstractmethod
    def stack(self) -> dict[str, Any]:
        """Runtime, version, provider and options: whatever changes which kernels run."""

    @abc.abstractmethod
    def load(self, model: str, optimise: bool) -> Loaded:
        """`BadInput` when the file is no model, `TargetError` when this runtime cannot take it."""

    @abc.abstractmethod
    def build(self, model: str, output: str, optimise: bool) -> None:
        """Write an engine that was seen to load again. `output` appears whole or not at all."""

    @abc.abstractmethod
    def profiled(self, model: str, shapes: Mapping[str, Sequence[int]], graph: str) -> Profiled:
        """The model loaded with profiling on, on fixed random feeds. Writes what the host's join needs to `graph`."""


def open_runtime(name: str, threads: int) -> Runtime:
    """`RuntimeMissing` when it is not installed here."""
    if name not in RUNTIMES:
        raise BadInput(f"There is no runtime {name!r}. Known: {', '.join(RUNTIMES)}.")
    opened: Runtime = importlib.import_module(RUNTIMES[name]).start(threads)
    return opened
