"""OpenVINO on the processor (device side). An engine is a compiled model as OpenVINO exports it: for this processor."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping, Sequence

from targets.errors import BadInput, RuntimeMissing, TargetError
from targets.protocol import one_line
from targets.runtimes import Loaded, Profiled, Reads, Runtime, Shapes, Tensors, only

if TYPE_CHECKING:  # numpy comes with the runtime: without it, the runtime is what is missing
    import numpy as np

DEVICE = "CPU"
TELEMETRY = "openvino_telemetry"
ENGINE = ".blob"
READS = Reads(opset=21, ir=10)  # newer files are taken too, and read as if they were of these versions
SINK = "/sink_port_0"  # what it puts behind the name of a tensor that is an output
CONSTANT_TYPES = ("Const", "Input", "Output")


def start(threads: int, options: Mapping[str, Any]) -> Runtime:
    only(options, (), "openvino")
    try:
        with unreported():
            import openvino
    except ImportError as missing:
        raise RuntimeMissing(
            f"OpenVINO cannot be imported by {sys.executable} ({missing}). "
            f"Run there: {sys.executable} -m pip install openvino"
        ) from missing
    return OpenVino(openvino, threads)


@contextlib.contextmanager
def unreported() -> Iterator[None]:
    """Where its telemetry is installed, importing OpenVINO sends word to its makers: a process beside the measurement,
    which waits for a network and outlives the worker. Without the package it does without."""
    before = sys.modules.get(TELEMETRY)
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # importing it raises ImportError
    try:
        yield
    finally:
        del sys.modules[TELEMETRY]
        if before is not None:
            sys.modules[TELEMETRY] = before


class OpenVino(Runtime):
    def __init__(self, package: Any, threads: int) -> None:
        self._package = package
        self._core = package.Core()
        self.threads = threads

    def stack(self) -> dict[str, Any]:
        return {
            "runtime": "openvino",
            "version": self._package.__version__,
            "provider": DEVICE,
            "options": {"hint": "latency", "streams": 1, "inference_precision": "f32"},
        }

    def reads(self) -> Reads:
        return READS

    def load(self, model: str, optimise: bool) -> Loaded:
        return Model(self.compiled(model))

    def build(self, model: str, output: str, optimise: bool) -> None:
        beside = Path(output + ".part")
        try:
            beside.write_bytes(self.compiled(model).export_model().getvalue())
            self.imported(str(beside))
            beside.replace(output)
        finally:
            with contextlib.suppress(FileNotFoundError):
                beside.unlink()

    def profiled(self, model: str, shapes: Shapes, graph: str) -> Profiled:
        compiled = self.compiled(model, profiling=True)
        nodes = executed(compiled)
        Path(graph).write_text(json.dumps(nodes), encoding="utf-8")
        return ProfiledModel(compiled, [node["name"] for node in nodes])

    def compiled(self, model: str, profiling: bool = False) -> Any:
        if model.endswith(ENGINE):
            return self.imported(model)
        read = self.read(model)
        try:
            return self._core.compile_model(read, DEVICE, {**self._properties(), "PERF_COUNT": profiling})
        except Exception as failure:
            raise TargetError(
                f"OpenVINO {self._package.__version__} cannot compile {Path(model).name}: {one_line(str(failure))}"
            ) from failure

    def _properties(self) -> dict[str, Any]:
        return {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",  # else some processors compute in bf16, and an engine forgets its own
            "ENABLE_CPU_PINNING": False,  # the worker is pinned as a whole
        }

    def read(self, model: str) -> Any:
        try:
            return self._core.read_model(model)
        except Exception as failure:
            message = one_line(str(failure))
            kind = TargetError if "not supported" in message or "No conversion rule" in message else BadInput
            raise kind(f"OpenVINO {self._package.__version__} cannot read {Path(model).name}: {message}") from failure

    def imported(self, engine: str) -> Any:
        try:
            return self._core.import_model(io.BytesIO(Path(engine).read_bytes()), DEVICE, self._properties())
        except Exception as failure:
            raise BadInput(
                f"{Path(engine).name} is not an engine that OpenVINO {self._package.__version__} can load here: "
                f"{one_line(str(failure))} Build it again on this device."
            ) from failure


class Model(Loaded):
    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def inputs(self) -> list[dict[str, Any]]:
        return [spec_of(port) for port in self._compiled.inputs]

    def run(self, feeds: Tensors) -> dict[str, np.ndarray[Any, Any]]:
        from targets.feeds import check_feeds

        check_feeds(self.inputs(), feeds)
        try:
            found = self._compiled.create_infer_request().infer(dict(feeds))
        except Exception as failure:
            raise TargetError(f"OpenVINO could not run the model: {one_line(str(failure))}") from failure
        return {output_name(port): found[port].copy() for port in self._compiled.outputs}

    def runner(self, shapes: Shapes) -> Callable[[], object]:
        from targets.feeds import random_feeds

        request = self._compiled.create_infer_request()
        request.infer(random_feeds(self.inputs(), shapes))  # which also leaves the feeds in the request
        run: Callable[[], object] = request.infer
        return run


class ProfiledModel(Profiled):
    def __init__(self, compiled: Any, nodes: list[str]) -> None:
        from targets.feeds import random_feeds

        self._nodes = nodes
        self._request = compiled.create_infer_request()
        self._request.infer(random_feeds([spec_of(port) for port in compiled.inputs], {}))
        self._runs: list[dict[str, int]] = []

    def run(self) -> object:
        self._request.infer()
        self._runs.append(
            {
                info.node_name: int(info.real_time.total_seconds() * 1e9)
                for info in self._request.get_profiling_info()
                if info.status == info.Status.EXECUTED
            }
        )
        return self._runs[-1]

    def kernels(self, kept: Sequence[int]) -> list[dict[str, Any]]:
        """In the order of execution; what took less than a microsecond counts as not run, and took none. The host's
        join knows the rest from the graph."""
        return [
            {"name": name, "op": "", "output_shapes": [], "samples_ns": [self._runs[run].get(name, 0) for run in kept]}
            for name in self._nodes
        ]


def executed(compiled: Any) -> list[dict[str, Any]]:
    """The nodes of the graph that really runs, without constants: what they are called, were, read and make."""
    nodes = compiled.get_runtime_model().get_ordered_ops()
    told = [(node, {key: value.value for key, value in node.get_rt_info().items()}) for node in nodes]
    return [
        {
            "name": node.get_friendly_name(),
            "op": info["layerType"],
            "primitive": info["primitiveType"],
            "originals": [name for name in info["originalLayersNames"].split(",") if name],
            "reads": [port.get_source_output().get_node().get_friendly_name() for port in node.inputs()],
            "layout": info["outputLayouts"],
        }
        for node, info in told
        if info["layerType"] not in CONSTANT_TYPES
    ]


def name_of(port: Any) -> str:
    name: str = port.get_any_name()
    return name


def output_name(port: Any) -> str:
    """The tensor's name in ONNX, where several tensors became one: that of the output."""
    name: str = port.get_node().get_friendly_name()
    ours = name[: -len(SINK)] if name.endswith(SINK) else name
    return ours if ours in port.get_names() else name_of(port)


def spec_of(port: Any) -> dict[str, Any]:
    shape = [dim.get_length() if dim.is_static else None for dim in port.get_partial_shape()]
    return {"name": name_of(port), "shape": shape, "dtype": port.get_element_type().to_dtype().name}
