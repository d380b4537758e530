"""ncnn on the processor (device side). An engine is a zip of an ncnn model and what its inputs and outputs are called.

ncnn knows no batch: one example is run after the other, and a run of several takes their time together. Its converter
(pnnx) numbers inputs and outputs, so that their names have to be kept beside the model. ncnn computes what is asked for
and keeps what it has computed: asked for one layer's output after the other, it tells what each layer takes.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence

from targets.errors import BadInput, RuntimeMissing, TargetError
from targets.protocol import one_line
from targets.runtimes import Loaded, Profiled, Reads, Runtime, Shapes, Tensors, only

if TYPE_CHECKING:  # numpy comes with the runtime: without it, the runtime is what is missing
    import numpy as np

ENGINE = ".ncnn.zip"
PARAM, WEIGHTS, MEANING = "model.ncnn.param", "model.ncnn.bin", "meaning.json"
READS = Reads(opset=18, ir=9)
CONVERSION_S = 600
NOTHING = ("Input", "Split", "MemoryData", "Noop")  # layers that take no time
AS_IT_LIES = 1  # extract without converting what is packed


def start(threads: int, options: Mapping[str, Any]) -> Runtime:
    only(options, (), "ncnn")
    try:
        import ncnn
    except ImportError as missing:
        raise RuntimeMissing(
            f"ncnn cannot be imported by {sys.executable} ({missing}). "
            f"Run there: {sys.executable} -m pip install ncnn pnnx"
        ) from missing
    return Ncnn(ncnn, threads)


class Ncnn(Runtime):
    def __init__(self, package: Any, threads: int) -> None:
        self._package = package
        self.threads = threads

    def stack(self) -> dict[str, Any]:
        return {
            "runtime": "ncnn",
            "version": self._package.__version__,
            "provider": "CPU",
            "options": {"precision": "fp32"},
        }

    def reads(self) -> Reads:
        return READS

    def load(self, model: str, optimise: bool) -> Loaded:
        with tempfile.TemporaryDirectory(prefix="ncnn-", dir=".") as folder:
            return self._open(self._unpacked(model, Path(folder)), Path(model).name)

    def build(self, model: str, output: str, optimise: bool) -> None:
        beside = Path(output + ".part")
        with tempfile.TemporaryDirectory(prefix="ncnn-", dir=".") as folder:
            files = self._unpacked(model, Path(folder))
            self._open(files, Path(model).name)
            try:
                with zipfile.ZipFile(beside, "w") as archive:
                    for name in (PARAM, WEIGHTS, MEANING):
                        archive.write(files / name, name)
                beside.replace(output)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    beside.unlink()

    def profiled(self, model: str, shapes: Shapes, graph: str) -> Profiled:
        with tempfile.TemporaryDirectory(prefix="ncnn-", dir=".") as folder:
            files = self._unpacked(model, Path(folder))
            layers = layers_of(files / PARAM)
            Path(graph).write_text(json.dumps(layers), encoding="utf-8")
            return ProfiledModel(self._open(files, Path(model).name), layers)

    def _unpacked(self, model: str, folder: Path) -> Path:
        """A folder with the model's three files: of an engine, or of an ONNX file, which is converted."""
        if not model.endswith(ENGINE):
            return convert(Path(model), folder)
        try:
            with zipfile.ZipFile(model) as archive:
                for name in (PARAM, WEIGHTS, MEANING):
                    (folder / name).write_bytes(archive.read(name))
        except (zipfile.BadZipFile, KeyError) as failure:
            raise BadInput(f"{Path(model).name} is not an engine that ncnn can load: {failure}.") from failure
        return folder

    def _open(self, files: Path, name: str) -> Model:
        net = self._package.Net()
        net.opt.num_threads = self.threads
        net.opt.use_vulkan_compute = False
        for switch in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(net.opt, f"use_{switch}", False)
        if net.load_param(str(files / PARAM)) != 0 or net.load_model(str(files / WEIGHTS)) != 0:
            unknown = unknown_layers(self._package, files / PARAM)
            why = f"it does not know {', '.join(unknown)}" if unknown else "its converted form cannot be read"
            raise TargetError(f"ncnn {self._package.__version__} cannot load {name}: {why}.")
        return Model(self._package, net, json.loads((files / MEANING).read_text(encoding="utf-8")))


class Model(Loaded):
    """`meaning`: `inputs` and `outputs` as ONNX declares them, in the order in which pnnx numbers them."""

    def __init__(self, package: Any, net: Any, meaning: Mapping[str, Any]) -> None:
        self._package = package
        self._net = net
        self._inputs: list[dict[str, Any]] = meaning["inputs"]
        self._outputs: list[dict[str, Any]] = meaning["outputs"]

    def inputs(self) -> list[dict[str, Any]]:
        return self._inputs

    def run(self, feeds: Tensors) -> dict[str, np.ndarray[Any, Any]]:
        import numpy as np

        from targets.feeds import check_feeds

        check_feeds(self._inputs, feeds)
        count = self._inputs[0]["shape"][0]
        examples = [self._one([feeds[spec["name"]][number] for spec in self._inputs]) for number in range(count)]
        return {
            spec["name"]: np.stack([example[number] for example in examples]).reshape(spec["shape"])
            for number, spec in enumerate(self._outputs)
        }

    def runner(self, shapes: Shapes) -> Callable[[], object]:
        examples = self.random_examples(shapes)
        self._one(examples[0])  # a model that cannot run says so here, in one line

        def run() -> None:
            for example in examples:
                self._one(example)

        return run

    def given(self, example: Sequence[np.ndarray[Any, Any]]) -> Any:
        """What one example is computed in, with its inputs."""
        import numpy as np

        extractor = self._net.create_extractor()
        for number, values in enumerate(example):
            extractor.input(f"in{number}", self._package.Mat(np.ascontiguousarray(values)).clone())  # it works in place
        return extractor

    def random_examples(self, shapes: Shapes) -> list[list[np.ndarray[Any, Any]]]:
        from targets.feeds import random_feeds

        feeds = random_feeds(self._inputs, shapes)
        count = self._inputs[0]["shape"][0]
        return [[feeds[spec["name"]][number] for spec in self._inputs] for number in range(count)]

    def _one(self, example: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        import numpy as np

        extractor = self.given(example)
        found = []
        for number, spec in enumerate(self._outputs):
            status, mat = extractor.extract(f"out{number}")
            if status != 0:
                raise TargetError(f"ncnn could not compute {spec['name']!r} (status {status}).")
            found.append(np.array(mat))
        return found


class ProfiledModel(Profiled):
    def __init__(self, model: Model, layers: Sequence[Mapping[str, Any]]) -> None:
        self._model = model
        self._layers = layers
        self._examples = model.random_examples({})
        self._runs: list[list[int]] = []

    def run(self) -> object:
        taken = [0] * len(self._layers)
        for example in self._examples:
            extractor = self._model.given(example)
            extractor.set_light_mode(False)  # which would forget what comes before
            for index, layer in enumerate(self._layers):
                begun = time.perf_counter_ns()
                extractor.extract(layer["makes"][-1], type=AS_IT_LIES)
                taken[index] += time.perf_counter_ns() - begun
        self._runs.append(taken)
        return taken

    def kernels(self, kept: Sequence[int]) -> list[dict[str, Any]]:
        return [
            {
                "name": layer["name"],
                "op": layer["type"],
                "output_shapes": [],
                "samples_ns": [self._runs[run][index] for run in kept],
            }
            for index, layer in enumerate(self._layers)
        ]


def convert(model: Path, folder: Path) -> Path:
    """ONNX to ncnn in `folder`, one example at a time."""
    program = shutil.which("pnnx", path=str(Path(sys.executable).parent)) or shutil.which("pnnx")
    try:
        import onnx
    except ImportError as missing:
        raise RuntimeMissing(f"Converting to ncnn needs onnx: {sys.executable} -m pip install onnx") from missing
    if program is None:
        raise RuntimeMissing(f"Converting to ncnn needs pnnx: {sys.executable} -m pip install --no-deps pnnx")
    from targets.runtimes.onnx_inputs import dims, specs_of

    try:
        given = onnx.load(str(model))
    except Exception as failure:  # protobuf's own errors
        raise BadInput(f"{model.name} is not a model that ONNX can read: {one_line(str(failure))}") from failure
    inputs = specs_of(given.graph)
    outputs = [{"name": value.name, "shape": dims(value)} for value in given.graph.output]
    batch = {tuple(spec["shape"][:1]) for spec in inputs}
    if len(batch) != 1 or batch == {()}:
        raise TargetError(f"{model.name}: ncnn takes one example at a time, and its inputs have no batch in common.")
    for value in (*given.graph.input, *given.graph.output):
        if value.name in {each["name"] for each in (*inputs, *outputs)} and value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(given, str(folder / "model.onnx"))
    asked = ",".join(f"[{','.join(map(str, [1, *spec['shape'][1:]]))}]{SUFFIXES[spec['dtype']]}" for spec in inputs)
    done = subprocess.run(
        [program, "model.onnx", f"inputshape={asked}", "fp16=0"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=CONVERSION_S,
        check=False,
    )
    if done.returncode != 0 or not (folder / PARAM).exists():
        said = one_line((done.stderr or done.stdout)[-300:])
        raise TargetError(f"{model.name} cannot be converted to ncnn (status {done.returncode}): {said}")
    (number,) = next(iter(batch))
    for each in outputs:
        each["shape"] = [number, *(dim if isinstance(dim, int) else -1 for dim in each["shape"][1:])]
    (folder / MEANING).write_text(json.dumps({"inputs": inputs, "outputs": outputs}), encoding="utf-8")
    return folder


SUFFIXES = {"float32": "f32", "float16": "f16", "int64": "i64", "int32": "i32", "int8": "i8", "uint8": "u8"}


def layers_of(param: Path) -> list[dict[str, Any]]:
    """Every layer of a .param file that computes, in order: `name`, `type`, `reads`, `makes`, and its parameters by
    their numbers."""
    found = []
    for line in param.read_text(encoding="utf-8").splitlines()[2:]:
        kind, name, reads, makes, *rest = line.split()
        tensors, parameters = rest[: int(reads) + int(makes)], rest[int(reads) + int(makes) :]
        if kind not in NOTHING:
            found.append(
                {
                    "name": name,
                    "type": kind,
                    "reads": tensors[: int(reads)],
                    "makes": tensors[int(reads) :],
                    "parameters": dict(parameter.split("=", 1) for parameter in parameters),
                }
            )
    return found


def unknown_layers(package: Any, param: Path) -> list[str]:
    """The layers that ncnn does not know, each with its kind."""
    return [f"{each['name']} ({each['type']})" for each in layers_of(param) if package.layer_to_index(each["type"]) < 0]
