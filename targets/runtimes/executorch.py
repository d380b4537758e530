"""ExecuTorch with XNNPACK (device side). An engine is a zip of a program and what its inputs and outputs are called.

Programs are compiled from torch on the host (`pipeline/lowering`); here they are loaded and run. Its Python package
takes and gives torch tensors, and brings torch with it.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence

from targets.errors import BadInput, RuntimeMissing, TargetError
from targets.protocol import one_line
from targets.runtimes import Loaded, Profiled, Reads, Runtime, Shapes, Tensors, only

if TYPE_CHECKING:
    import numpy as np

ENGINE = ".pte.zip"
PROGRAM, MEANING = "model.pte", "meaning.json"
READS = Reads(opset=20, ir=10)


def start(threads: int, options: Mapping[str, Any]) -> Runtime:
    only(options, (), "executorch")
    try:
        runtime = importlib.import_module("executorch.runtime")
    except ImportError as missing:
        raise RuntimeMissing(
            f"ExecuTorch cannot be imported by {sys.executable} ({missing}). "
            f"Run there: {sys.executable} -m pip install executorch"
        ) from missing
    return ExecuTorch(runtime, threads)


class ExecuTorch(Runtime):
    def __init__(self, package: Any, threads: int) -> None:
        self._package = package
        self.threads = threads

    def stack(self) -> dict[str, Any]:
        return {"runtime": "executorch", "version": version("executorch"), "provider": "XNNPACK", "options": {}}

    def reads(self) -> Reads:
        return READS

    def load(self, model: str, optimise: bool) -> Loaded:
        try:
            with zipfile.ZipFile(model) as archive:
                program, meaning = archive.read(PROGRAM), json.loads(archive.read(MEANING))
        except (zipfile.BadZipFile, KeyError, ValueError) as failure:
            raise BadInput(f"{Path(model).name} is not an engine that ExecuTorch can load: {failure}.") from failure
        try:
            loaded = self._package.Runtime.get().load_program(program)
            method = loaded.load_method("forward")
        except Exception as failure:
            raise TargetError(f"ExecuTorch cannot load {Path(model).name}: {one_line(str(failure))}") from failure
        return Program(method, meaning, (program, loaded))

    def build(self, model: str, output: str, optimise: bool) -> None:
        self.load(model, optimise)  # it came compiled
        beside = Path(output + ".part")
        shutil.copyfile(model, beside)
        beside.replace(output)

    def profiled(self, model: str, shapes: Shapes, graph: str) -> Profiled | None:
        return None


class Program(Loaded):
    """`meaning`: `inputs` and `outputs` as ONNX declares them, in the order of the program's. `held`: what the method
    points into, and does not keep alive itself."""

    def __init__(self, method: Any, meaning: Mapping[str, Any], held: tuple[Any, ...]) -> None:
        self._method = method
        self._held = held
        self._torch = importlib.import_module("torch")
        self._inputs: list[dict[str, Any]] = meaning["inputs"]
        self._outputs: list[dict[str, Any]] = meaning["outputs"]

    def inputs(self) -> list[dict[str, Any]]:
        return self._inputs

    def run(self, feeds: Tensors) -> dict[str, np.ndarray[Any, Any]]:
        from targets.feeds import check_feeds

        check_feeds(self._inputs, feeds)
        made = self._execute(self._tensors(feeds))
        return {spec["name"]: tensor.numpy().copy() for spec, tensor in zip(self._outputs, made)}  # noqa: B905

    def runner(self, shapes: Shapes) -> Callable[[], object]:
        from targets.feeds import random_feeds

        tensors = self._tensors(random_feeds(self._inputs, shapes))
        self._execute(tensors)
        execute = self._method.execute

        def run(held: tuple[Any, ...] = self._held) -> object:  # which has to live as long as this does
            return execute(tensors)

        return run

    def _tensors(self, feeds: Tensors) -> list[Any]:
        return [self._torch.from_numpy(feeds[spec["name"]].copy()) for spec in self._inputs]

    def _execute(self, tensors: Sequence[Any]) -> Sequence[Any]:
        try:
            made: Sequence[Any] = self._method.execute(tensors)
        except Exception as failure:
            raise TargetError(f"ExecuTorch could not run the model: {one_line(str(failure))}") from failure
        return made
