"""A graph in another precision. For int8, batch-norm is folded, ranges are found by running samples, pairs put in."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.batches import Samples
from calibration.casting import cast
from calibration.histograms import find_histograms
from calibration.quantize import SCHEMES, Scheme, quantised
from calibration.ranges import METHODS, Range
from pipeline.graph.execute import session
from pipeline.graph.fold_batchnorm import fold_batchnorm
from pipeline.graph.model import Model, free_batch, infer_shapes
from targets.device import Device
from targets.errors import BadInput

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, eq=False)
class Quantised:
    """`ranges`: of the float tensors, by name. `excluded`: the nodes that were left in floating point on request."""

    model: Model
    ranges: Mapping[str, Range]
    excluded: tuple[str, ...]


def quantise(
    model: Model,
    samples: Samples,
    scheme: Scheme,
    *,
    method: str = "entropy",
    exclude: Collection[str] = (),
    on_progress: Progress | None = None,
) -> Quantised:
    """`method`: see `calibration.ranges.METHODS`. `exclude`: patterns (`*`, `?`) of node names; one that matches
    nothing is BadInput."""
    if method not in METHODS:
        raise BadInput(f"There are no {method!r} ranges. Known: {', '.join(METHODS)}.")
    folded = fold_batchnorm(model)
    left_out = matching(folded.proto, exclude)
    histograms = find_histograms(Observer(folded), samples, on_progress=on_progress)
    ranges = {name: METHODS[method](histogram) for name, histogram in histograms.items()}
    proto = quantised(folded.proto, ranges, scheme, left_out)
    return Quantised(Model(proto, model.bound, infer_shapes(proto, model.bound)), ranges, left_out)


def scheme_for(runtime: str, device: Device) -> Scheme:
    """BadInput where the runtime takes no int8 from ONNX. Without VNNI, x86 adds int8 products in 16 bits."""
    if runtime not in SCHEMES:
        raise BadInput(f"{runtime} takes no int8 from quantise / dequantise pairs. It has: {', '.join(SCHEMES)}.")
    scheme, features = SCHEMES[runtime], set(device.device_class.get("features", ()))
    x86 = device.device_class.get("arch") in ("x86_64", "amd64")
    if runtime in ("onnxruntime", "ort") and x86 and not features & {"avx512_vnni", "avx_vnni", "amx_int8"}:
        return Scheme(scheme.activations, scheme.bias, scheme.outputs, narrow=True)
    return scheme


def in_sixteen_bits(model: Model, precision: str) -> Model:
    """`precision`: fp16 or bf16."""
    proto = cast(model.proto, precision)
    return Model(proto, model.bound, infer_shapes(proto, model.bound))


def matching(proto: onnx.ModelProto, patterns: Collection[str]) -> tuple[str, ...]:
    names = [node.name for node in proto.graph.node]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise BadInput(f"No node is called {pattern!r}. They are listed by: cutback inspect MODEL --json")
    return tuple(name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns))


class Observer:
    """A graph that gives every float tensor in it, inputs included."""

    def __init__(self, model: Model) -> None:
        proto = onnx.ModelProto()
        proto.CopyFrom(free_batch(model))
        outputs = {value.name for value in proto.graph.output}
        floats = float_tensors(model.proto)
        self._inputs = [value.name for value in proto.graph.input if value.name in floats]
        self._names = [name for node in proto.graph.node for name in node.output if name in floats]
        proto.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in self._names
            if name not in outputs
        )
        self._session = session(proto)

    def __call__(self, inputs: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        try:
            values: list[Any] = self._session.run(self._names, dict(inputs))
        except Exception as error:  # the runtime's errors share no base class of their own
            raise BadInput(
                f"Calibration: the network cannot run these samples: {' '.join(str(error).split())[:200]}"
            ) from error
        return {**{name: inputs[name] for name in self._inputs}, **dict(zip(self._names, values, strict=True))}


def float_tensors(proto: onnx.ModelProto) -> set[str]:
    """Names of the tensors of dtype float32, weights left out."""
    graph = onnx.shape_inference.infer_shapes(proto).graph
    weights = {tensor.name for tensor in graph.initializer}
    return {
        value.name
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT and value.name not in weights
    }
