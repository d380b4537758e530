"""ONNX Runtime's own format, `.ort` (device side): what its smaller builds for phones load. Runs on the processor.

A graph in this format is not optimised again as it is loaded, so what it shall have has to be in it. It is saved at the
extended level, which fuses nodes and chooses nothing by processor: the level above bakes in the blocked layout of
x86 (NCHWc), which an Arm processor has no kernels for. So the file travels, and on x86 it lacks that layout: there the
same network is another choice of kernels than under `onnxruntime`, in a phone it is the same.

The format cannot be saved as ONNX with the names that a join needs, nor be read by the `onnx` package. A profile is
therefore asked for with the ONNX file: it is optimised twice by the same rules, once into the format, which is run, and
once into ONNX, which tells the host what the nodes are. Nodes carry the same names in both.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any, Iterator, Mapping

from targets.errors import BadInput, TargetError
from targets.runtimes import Loaded, Profiled, Reads, Runtime, Shapes, only
from targets.runtimes.onnxruntime import OnnxRuntime, ProfiledSession, Session, opened, remove, weights_apart
from targets.runtimes.onnxruntime_providers import Provider

ENGINE = ".ort"
IDENTIFIER = b"ORTM"  # in bytes 4 to 8 of every file of the format


def start(threads: int, options: Mapping[str, Any]) -> Runtime:
    only(options, (), "ort")
    return OrtFormat(opened(threads, Provider()))


class OrtFormat(Runtime):
    def __init__(self, inner: OnnxRuntime) -> None:
        self._inner = inner
        self.threads = inner.threads

    def stack(self) -> dict[str, Any]:
        inner = self._inner.stack()
        return {**inner, "runtime": "ort", "options": {**inner["options"], "optimisation": "extended, saved"}}

    def reads(self) -> Reads:
        return self._inner.reads()

    def load(self, model: str, optimise: bool) -> Loaded:
        with self._converted(model, optimise) as engine:
            return Session(self._open(engine, model))

    def build(self, model: str, output: str, optimise: bool) -> None:
        with self._converted(model, optimise) as engine:
            self._open(engine, model)
            beside = Path(output + ".part")
            try:
                beside.write_bytes(Path(engine).read_bytes())
                beside.replace(output)
            finally:
                remove(beside)

    def profiled(self, model: str, shapes: Shapes, graph: str) -> Profiled:
        if model.endswith(ENGINE):
            raise TargetError(
                f"{Path(model).name} keeps no ONNX graph that kernels could be joined to. Profile the ONNX file that "
                "it was built from."
            )
        saving = self._saving(graph, True)
        with weights_apart(graph, saving):
            self._inner.session(model, saving)
        options = self._inner.options(True)
        options.enable_profiling = True
        options.profile_file_prefix = graph
        with self._converted(model, True) as engine:
            return ProfiledSession(self._open(engine, model, options), shapes)

    @contextlib.contextmanager
    def _converted(self, model: str, optimise: bool) -> Iterator[str]:
        """The path of `model` in the format, for as long as it takes to open it."""
        if model.endswith(ENGINE):
            yield model
            return
        with tempfile.TemporaryDirectory(prefix="ort-", dir=".") as folder:
            engine = str(Path(folder, "model" + ENGINE))
            saving = self._saving(engine, optimise)
            saving.add_session_config_entry("session.save_model_format", "ORT")
            self._inner.session(model, saving)
            yield engine

    def _saving(self, output: str, optimise: bool) -> Any:
        """Options of a session that saves its graph to `output`."""
        options = self._inner.options(optimise)
        if optimise:
            options.graph_optimization_level = self._inner.package.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = output
        return options

    def _open(self, engine: str, model: str, options: Any = None) -> Any:
        """`model`: what it was made from, which errors name."""
        with Path(engine).open("rb") as file:
            if file.read(8)[4:] != IDENTIFIER:
                raise BadInput(f"{Path(model).name} is no model in ONNX Runtime's own format.")
        return self._inner.session(engine, options or self._inner.options(True))
