"""MNN on the processor (device side). An engine is an MNN model: it runs on every processor that MNN runs on."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence

from targets.errors import BadInput, RuntimeMissing, TargetError
from targets.runtimes import Loaded, Profiled, Reads, Runtime, Shapes, Tensors, only

if TYPE_CHECKING:  # numpy comes with the runtime: without it, the runtime is what is missing
    import numpy as np

ENGINE = ".mnn"
READS = Reads(opset=20, ir=10)


def start(threads: int, options: Mapping[str, Any]) -> Runtime:
    only(options, (), "mnn")
    try:
        import MNN
    except ImportError as missing:
        raise RuntimeMissing(
            f"MNN cannot be imported by {sys.executable} ({missing}). Run there: {sys.executable} -m pip install MNN"
        ) from missing
    return Mnn(MNN, threads)


class Mnn(Runtime):
    def __init__(self, package: Any, threads: int) -> None:
        self._package = package
        self.threads = threads

    def stack(self) -> dict[str, Any]:
        return {
            "runtime": "mnn",
            "version": self._package.version(),
            "provider": "CPU",
            "options": {"precision": "high"},
        }

    def reads(self) -> Reads:
        return READS

    def load(self, model: str, optimise: bool) -> Loaded:
        return Model(self._package, *self.session(model))

    def build(self, model: str, output: str, optimise: bool) -> None:
        beside = Path(output).with_name(Path(output).name + ".part" + ENGINE)
        try:
            self._convert(model, str(beside))
            self.session(str(beside))
            beside.replace(output)
        finally:
            remove(beside)

    def profiled(self, model: str, shapes: Shapes, graph: str) -> Profiled:
        Path(graph).touch()  # the names of its operators say enough
        return ProfiledModel(Model(self._package, *self.session(model)))

    def session(self, model: str) -> tuple[Any, Any]:
        """(interpreter, session) of an engine, or of an ONNX file, which is converted first."""
        if not model.endswith(ENGINE):
            converted = Path("converted" + ENGINE).absolute()  # in the agent's own folder
            try:
                self._convert(model, str(converted))
                return self._open(str(converted))
            finally:
                remove(converted)
        return self._open(model)

    def _open(self, engine: str) -> tuple[Any, Any]:
        interpreter = self._package.Interpreter(engine)
        setting = {"backend": "CPU", "numThread": self.threads, "precision": "high"}
        session = interpreter.createSession(setting)
        if not interpreter.getSessionOutputAll(session):
            raise BadInput(f"{Path(engine).name} is not a model that MNN {self._package.version()} can load.")
        return interpreter, session

    def _convert(self, model: str, output: str) -> None:
        import _tools  # the package's command would run pip and report home; what it calls does neither

        arguments = ["", "-f", "ONNX", "--modelFile", model, "--MNNModel", output, "--bizCode", "cutback"]
        done = _tools.mnnconvert(arguments)
        if not done or not Path(output).exists():
            raise TargetError(
                f"MNN {self._package.version()} cannot convert {Path(model).name}: it is no ONNX model, or has an "
                "operator that MNN does not know. Check it with: cutback inspect"
            )


class Model(Loaded):
    def __init__(self, package: Any, interpreter: Any, session: Any) -> None:
        self._package = package
        self.interpreter = interpreter
        self.session = session
        self._dtypes = {
            package.Halide_Type_Float: "float32",
            package.Halide_Type_Int: "int32",
            package.Halide_Type_Uint8: "uint8",
        }

    def inputs(self) -> list[dict[str, Any]]:
        found = self.interpreter.getSessionInputAll(self.session)
        return [
            {
                "name": name,
                "shape": [dim if dim > 0 else None for dim in tensor.getShape()],
                "dtype": self._dtype(name, tensor),
            }
            for name, tensor in found.items()
        ]

    def run(self, feeds: Tensors) -> dict[str, np.ndarray[Any, Any]]:
        from targets.feeds import check_feeds

        check_feeds(self.inputs(), narrowed(feeds))
        self.feed(narrowed(feeds))
        self.interpreter.runSession(self.session)
        outputs = self.interpreter.getSessionOutputAll(self.session)
        return {name: self._fetched(name, tensor) for name, tensor in outputs.items()}

    def runner(self, shapes: Shapes) -> Callable[[], object]:
        from targets.feeds import random_feeds

        self.feed(random_feeds(self.inputs(), shapes))
        run, session = self.interpreter.runSession, self.session
        return lambda: run(session)

    def feed(self, feeds: Tensors) -> None:
        for name, tensor in self.interpreter.getSessionInputAll(self.session).items():
            tensor.copyFrom(self._tensor(feeds[name], tensor.getDataType()))

    def _fetched(self, name: str, tensor: Any) -> np.ndarray[Any, Any]:
        import numpy as np

        host = self._tensor(np.zeros(tensor.getShape(), self._dtype(name, tensor)), tensor.getDataType())
        tensor.copyToHostTensor(host)
        return np.array(host.getNumpyData()).reshape(tensor.getShape())

    def _tensor(self, values: np.ndarray[Any, Any], kind: Any) -> Any:
        import numpy as np

        layout = self._package.Tensor_DimensionType_Caffe
        return self._package.Tensor(tuple(values.shape), kind, np.ascontiguousarray(values), layout)

    def _dtype(self, name: str, tensor: Any) -> str:
        kind = tensor.getDataType()
        if kind not in self._dtypes:
            raise TargetError(f"Tensor {name!r} has a type that MNN cannot pass to Python.")
        return self._dtypes[kind]


class ProfiledModel(Profiled):
    """Timed by callbacks around every operator."""

    def __init__(self, model: Model) -> None:
        self._run = model.interpreter.runSessionWithCallBackInfo
        self._session = model.session
        model.runner({})  # which feeds it
        self._runs: list[list[tuple[str, str, int]]] = []
        self._now: list[tuple[str, str, int]] = []
        self._begun = 0

    def run(self) -> object:
        self._now = []
        self._run(self._session, self._before, self._after)
        self._runs.append(self._now)
        return self._now

    def kernels(self, kept: Sequence[int]) -> list[dict[str, Any]]:
        """In the order of execution, which is the same in every run."""
        return [
            {
                "name": name,
                "op": op,
                "output_shapes": [],
                "samples_ns": [self._runs[run][index][2] for run in kept],
            }
            for index, (name, op, _) in enumerate(self._runs[-1])
        ]

    def _before(self, tensors: Any, op: Any) -> bool:
        self._begun = time.perf_counter_ns()
        return True

    def _after(self, tensors: Any, op: Any) -> bool:
        taken = time.perf_counter_ns() - self._begun
        self._now.append((op.getName(), op.getType(), taken))
        return True


def narrowed(feeds: Tensors) -> dict[str, np.ndarray[Any, Any]]:
    """MNN counts in 32 bits."""
    return {name: feed.astype("int32") if feed.dtype == "int64" else feed for name, feed in feeds.items()}


def remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
