"""Run a graph as it is written: ONNX Runtime on the host with its optimiser off.

The optimiser changes the outputs of some networks by percents, so proofs run without it.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from pipeline.graph.writing import is_inline, write_proto
from targets.errors import BadInput

if TYPE_CHECKING:
    import onnxruntime


def session(proto: onnx.ModelProto, *, optimise: bool = False, threads: int = 1) -> "onnxruntime.InferenceSession":
    """An inference session on this CPU. A model the runtime cannot take raises BadInput with the runtime's reason."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as ort

    options = ort.SessionOptions()
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    providers = ["CPUExecutionProvider"]
    try:
        if is_inline(proto):
            return ort.InferenceSession(proto.SerializeToString(), options, providers=providers)
        with tempfile.TemporaryDirectory(prefix="cutback-run-") as folder:
            write_proto(proto, Path(folder, "model.onnx"))
            return ort.InferenceSession(str(Path(folder, "model.onnx")), options, providers=providers)
    except Exception as error:  # the runtime's errors share no base class of their own
        raise BadInput(f"ONNX Runtime cannot load the model: {' '.join(str(error).split())[:300]}") from error


class Runner:
    """A graph, loaded once and run as written; call it with inputs by name for all outputs by name."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._names = [value.name for value in proto.graph.output]
        self._session = session(proto)

    def __call__(self, feeds: Mapping[str, NDArray[np.generic]]) -> dict[str, Any]:
        try:
            outputs = self._session.run(self._names, dict(feeds))
        except Exception as error:
            raise BadInput(f"ONNX Runtime cannot run the model: {' '.join(str(error).split())[:300]}") from error
        return dict(zip(self._names, outputs, strict=True))


def run_unoptimised(proto: onnx.ModelProto, feeds: Mapping[str, NDArray[np.generic]]) -> dict[str, Any]:
    """All graph outputs by name."""
    return Runner(proto)(feeds)
