"""The runtimes by name (device side). Adding one: a file here, a line in `RUNTIMES`, and the contract suite runs it."""

from __future__ import annotations

import abc
import importlib
from typing import TYPE_CHECKING, Any, Callable, Mapping, NamedTuple, Sequence

from targets.errors import BadInput

if TYPE_CHECKING:  # numpy comes with a runtime: this module must import where there is none
    import numpy as np

Tensors = Mapping[str, "np.ndarray[Any, Any]"]
Shapes = Mapping[str, Sequence[int]]


class Facts(NamedTuple):
    """What the host has to know of a runtime, which need not be installed there."""

    module: str  # device side, with `start(threads, options) -> Runtime`; imported when asked for
    join: str | None  # host side, with `join(raw, graph, source, shapes) -> kernels`; None: it tells no kernel times
    suffix: str  # of its engines, each one file
    fixed: bool = True  # it is only given models without free dimensions: the host binds them
    runs: bool = True  # False: it builds engines for devices that are not here, and runs none
    precisions: tuple[str, ...] = ("fp32",)  # that it has kernels for, and takes from the graph


RUNTIMES: Mapping[str, Facts] = {
    "onnxruntime": Facts(
        "targets.runtimes.onnxruntime",
        join="targets.runtimes.onnxruntime_kernels",
        suffix=".onnx",
        fixed=False,
        precisions=("fp32", "int8"),
    ),
    "ort": Facts(
        "targets.runtimes.ort_format",
        join="targets.runtimes.onnxruntime_kernels",
        suffix=".ort",
        fixed=False,
        precisions=("fp32", "int8"),
    ),
    "executorch": Facts("targets.runtimes.executorch", join=None, suffix=".pte.zip"),
    "mnn": Facts("targets.runtimes.mnn", join="targets.runtimes.mnn_kernels", suffix=".mnn"),
    "ncnn": Facts("targets.runtimes.ncnn", join="targets.runtimes.ncnn_kernels", suffix=".ncnn.zip"),
    "openvino": Facts(
        "targets.runtimes.openvino",
        join="targets.runtimes.openvino_kernels",
        suffix=".blob",
        precisions=("fp32", "int8"),
    ),
    "tensorrt": Facts(
        "targets.runtimes.tensorrt",
        join="targets.runtimes.tensorrt_kernels",
        suffix=".engine",
        precisions=("fp32", "fp16", "int8"),
    ),
    "tensorrt-rtx": Facts(
        "targets.runtimes.tensorrt_rtx",
        join=None,
        suffix=".rtx.engine",
        runs=False,
        precisions=("fp32", "fp16", "int8"),
    ),
}


class Reads(NamedTuple):
    """The newest ONNX that a runtime takes; the host converts what is newer, or refuses it."""

    opset: int
    ir: int


class Loaded(abc.ABC):
    """A model ready to run. Not for several threads at once."""

    @abc.abstractmethod
    def inputs(self) -> list[dict[str, Any]]:
        """`{"name", "shape", "dtype"}` of each input: dims are integers, symbols, or None; dtype is numpy's name."""

    @abc.abstractmethod
    def run(self, feeds: Tensors) -> dict[str, np.ndarray[Any, Any]]:
        """All outputs by name, owned by the caller. `BadInput` when the feeds do not fit."""

    @abc.abstractmethod
    def runner(self, shapes: Shapes) -> Callable[[], object]:
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
    """An engine that runs models in this process. Opening it has imported it.

    A model is an ONNX file or an engine of this runtime, told apart by the suffix. `shapes` binds free dimensions of
    inputs (unset batch: 1); where the facts say `fixed`, there are none.
    """

    threads: int
    gpu: str = ""  # the PCI address of the NVIDIA GPU that it uses, where it uses one and the driver tells

    @abc.abstractmethod
    def stack(self) -> dict[str, Any]:
        """Runtime, version, provider and options: whatever changes which kernels run."""

    @abc.abstractmethod
    def reads(self) -> Reads:
        """The newest ONNX that this version takes."""

    @abc.abstractmethod
    def load(self, model: str, optimise: bool) -> Loaded:
        """`BadInput` when the file is no model, `TargetError` when this runtime cannot take it: with the node's name
        where it is one node's fault. `optimise` False: as it is written, as far as the runtime can be told so."""

    @abc.abstractmethod
    def build(self, model: str, output: str, optimise: bool) -> None:
        """Write an engine that was seen to load again. `output` appears whole or not at all."""

    @abc.abstractmethod
    def profiled(self, model: str, shapes: Shapes, graph: str) -> Profiled | None:
        """The model loaded with profiling on, on fixed random feeds. Writes what the host's join needs to `graph`.
        None: this runtime tells no kernel times."""


def facts_of(name: str) -> Facts:
    if name not in RUNTIMES:
        raise BadInput(f"There is no runtime {name!r}. Known: {', '.join(RUNTIMES)}.")
    return RUNTIMES[name]


def open_runtime(name: str, threads: int, options: Mapping[str, Any]) -> Runtime:
    """`RuntimeMissing` when it is not installed here; `BadInput` for an option that it does not have."""
    opened: Runtime = importlib.import_module(facts_of(name).module).start(threads, options)
    return opened


def only(options: Mapping[str, Any], known: Sequence[str], runtime: str) -> None:
    """`BadInput` for an option that is not `known`."""
    for name in options:
        if name not in known:
            has = f"It has: {', '.join(known)}." if known else "It has none."
            raise BadInput(f"The runtime {runtime} has no option {name!r}. {has}")
