"""ONNX Runtime (device side), on the processor or on the provider that is asked for.

An optimised graph that ONNX Runtime saves at its highest level fits the processor it was saved on (blocked layouts,
chosen by instruction set). That is wanted: an engine is built on the device that runs it. Other providers compile as
they load and leave nothing that could be saved for all of them: their engine is the graph as it is, seen to load, and
nobody tells their kernels apart.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping, Sequence

from targets.errors import BadInput, RuntimeMissing, TargetError
from targets.protocol import one_line
from targets.runtimes import Loaded, Profiled, Reads, Runtime, Shapes, Tensors, only
from targets.runtimes.cuda import pci_address
from targets.runtimes.onnxruntime_providers import (
    CPU,
    NO_FALLBACK,
    ON_NVIDIA,
    Provider,
    asked,
    refuse_fallback,
    refuse_missing,
)

if TYPE_CHECKING:  # numpy comes with the runtime: without it, the runtime is what is missing
    import numpy as np

OPTIONS = ("provider", "fallback")

DTYPES = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(bool)": "bool",
    "tensor(int8)": "int8", "tensor(int16)": "int16", "tensor(int32)": "int32", "tensor(int64)": "int64",
    "tensor(uint8)": "uint8", "tensor(uint16)": "uint16", "tensor(uint32)": "uint32", "tensor(uint64)": "uint64",
}  # fmt: skip

# The smallest model there is, a Relu, without its versions: which ones a release takes, it is asked itself.
RELU = (
    b'\n\x0c\n\x01x\x12\x01y"\x04Relu\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01"
)
OLDEST = Reads(opset=15, ir=8)  # of the releases that are supported
NEWEST = Reads(opset=40, ir=30)  # far beyond what there is

NOT_A_MODEL = ("InvalidProtobuf", "NoSuchFile", "NoModel", "InvalidArgument")  # the file's fault, not the runtime's


def start(threads: int, options: Mapping[str, Any]) -> Runtime:
    only(options, OPTIONS, "onnxruntime")
    return opened(threads, asked(options))


def opened(threads: int, provider: Provider) -> OnnxRuntime:
    """`RuntimeMissing` where the package is not there, or does not have the provider."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # from 1.29 on it reports home unless told not to, before the import
    try:
        import onnxruntime
    except ImportError as missing:
        raise RuntimeMissing(
            f"ONNX Runtime cannot be imported by {sys.executable} ({missing}). "
            f"Run there: {sys.executable} -m pip install onnxruntime"
        ) from missing
    refuse_missing(onnxruntime, provider)
    return OnnxRuntime(onnxruntime, threads, provider)


class OnnxRuntime(Runtime):
    def __init__(self, package: Any, threads: int, provider: Provider) -> None:
        self.package = package
        self.threads = threads
        self._provider = provider
        self.gpu = pci_address() if provider.name in ON_NVIDIA else ""

    def stack(self) -> dict[str, Any]:
        options: dict[str, Any] = {"optimisation": "all", "execution": "sequential", "inter_op": 1, "spinning": True}
        if not self._provider.is_cpu:
            options["fallback"] = self._provider.fallback
        return {
            "runtime": "onnxruntime",
            "version": self.package.__version__,
            "provider": self._provider.name,
            "options": options,
        }

    def reads(self) -> Reads:
        opset = next((n for n in range(NEWEST.opset, OLDEST.opset, -1) if self._takes(n, OLDEST.ir)), OLDEST.opset)
        ir = next((n for n in range(NEWEST.ir, OLDEST.ir, -1) if self._takes(OLDEST.opset, n)), OLDEST.ir)
        return Reads(opset, ir)

    def load(self, model: str, optimise: bool) -> Loaded:
        return Session(self.session(model, self.options(optimise)))

    def build(self, model: str, output: str, optimise: bool) -> None:
        beside = output + ".part"
        options = self.options(optimise)
        if self._provider.is_cpu:
            options.optimized_model_filepath = beside
        try:
            self.session(model, options)
            if self._provider.is_cpu:
                self.session(beside, self.options(True))
            else:
                shutil.copyfile(model, beside)
            Path(beside).replace(output)
        finally:
            remove(Path(beside))

    def profiled(self, model: str, shapes: Shapes, graph: str) -> Profiled | None:
        if not self._provider.is_cpu:
            return None
        options = self.options(True)
        options.enable_profiling = True
        options.profile_file_prefix = graph
        options.optimized_model_filepath = graph
        with weights_apart(graph, options):
            session = self.session(model, options)
        return ProfiledSession(session, shapes)

    def _takes(self, opset: int, ir: int) -> bool:
        relu = bytes([8, ir, 0x3A, len(RELU)]) + RELU + bytes([0x42, 4, 0x0A, 0, 0x10, opset])
        options = self.package.SessionOptions()
        options.log_severity_level = 4
        try:
            self.package.InferenceSession(relu, options, providers=[CPU])
        except Exception:  # noqa: BLE001 -- its kinds of failure are not importable by name, and each is an answer
            return False
        return True

    def options(self, optimise: bool) -> Any:
        """Of a session on this runtime's threads."""
        package = self.package
        options = package.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = package.ExecutionMode.ORT_SEQUENTIAL
        level = package.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
        options.log_severity_level = 3  # errors: the warning that a saved graph fits this processor only is meant
        if not self._provider.fallback:
            options.add_session_config_entry(NO_FALLBACK, "1")
        return options

    def session(self, model: str, options: Any) -> Any:
        """On the provider that was asked for. Errors as `load` has them."""
        try:
            session = self.package.InferenceSession(
                model, options, providers=self._provider.listed, enable_fallback=False
            )
        except Exception as failure:
            name = Path(model).name
            kind = type(failure).__name__
            message = one_line(str(failure))
            if kind in NOT_A_MODEL:
                raise BadInput(f"{name} is not a model that ONNX Runtime can read: {message}") from failure
            raise TargetError(f"ONNX Runtime {self.package.__version__} cannot load {name}: {message}") from failure
        refuse_fallback(session, self._provider, Path(model).name)
        return session


class Session(Loaded):
    def __init__(self, session: Any) -> None:
        self._session = session

    def inputs(self) -> list[dict[str, Any]]:
        found = []
        for value in self._session.get_inputs():
            if value.type not in DTYPES:
                raise TargetError(f"Input {value.name!r} has type {value.type}, which cannot be fed from here.")
            found.append({"name": value.name, "shape": list(value.shape), "dtype": DTYPES[value.type]})
        return found

    def run(self, feeds: Tensors) -> dict[str, np.ndarray[Any, Any]]:
        names = [value.name for value in self._session.get_outputs()]
        try:
            return dict(zip(names, self._session.run(names, dict(feeds))))  # noqa: B905
        except Exception as failure:
            unfit = isinstance(failure, ValueError) or type(failure).__name__ == "InvalidArgument"
            kind = BadInput if unfit else TargetError
            raise kind(f"ONNX Runtime could not run the model: {one_line(str(failure))}") from failure

    def runner(self, shapes: Shapes) -> Callable[[], object]:
        from targets.feeds import random_feeds

        feeds = random_feeds(self.inputs(), shapes)
        self.run(feeds)  # a model that cannot run says so here, in one line
        names = [value.name for value in self._session.get_outputs()]
        run = self._session.run
        return lambda: run(names, feeds)


class ProfiledSession(Profiled):
    def __init__(self, session: Any, shapes: Shapes) -> None:
        self._session = session
        self._run = Session(session).runner(shapes)  # which runs once

    def run(self) -> object:
        return self._run()

    def kernels(self, kept: Sequence[int]) -> list[dict[str, Any]]:
        trace = Path(self._session.end_profiling())
        try:
            return read_trace(trace, [run + 1 for run in kept])
        finally:
            remove(trace)


@contextlib.contextmanager
def weights_apart(graph: str, options: Any) -> Iterator[None]:
    """Weights stay out of a graph that is saved to travel to the host."""
    weights = Path(graph + ".weights")
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", weights.name)
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    try:
        yield
    finally:
        remove(weights)


def remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def read_trace(path: Path, kept: Sequence[int]) -> list[dict[str, Any]]:
    """Each node's durations in the runs `kept` (the session's first is 0), whole microseconds turned into
    nanoseconds."""
    events = json.loads(path.read_text(encoding="utf-8"))
    suffix = "_kernel_time"
    found: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(suffix):
            found.setdefault(event["name"][: -len(suffix)], []).append(event)
    return [
        {
            "name": name,
            "op": every[-1]["args"].get("op_name", ""),
            "output_shapes": [
                shape for entry in every[-1]["args"].get("output_type_shape", []) for shape in entry.values()
            ],
            "samples_ns": [int(every[run]["dur"]) * 1000 for run in kept if run < len(every)],
        }
        for name, every in found.items()
    ]
