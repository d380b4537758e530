"""The smallest models that show one thing: nodes as text, weights by shape or value."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, parser

from pipeline.graph.channels import ChannelGroup
from pipeline.graph.couple import Channels, couple
from pipeline.graph.model import Model, from_proto
from tests.graph.random_cuts import proven

Weight = Sequence[int] | NDArray[np.generic]


def proto(inputs: str, body: str, outputs: str = "y", opset: int = 18, **weights: Weight) -> onnx.ModelProto:
    """`inputs` and `body` in ONNX's own text; a weight given by its shape (a tuple) is random, an array is itself."""
    typed = ", ".join(f"float {name}" for name in outputs.split(","))
    imports = f'"" : {opset}, "com.microsoft" : 1, "own" : 1'
    model = parser.parse_model(f"<ir_version: 8, opset_import: [{imports}]> g ({inputs}) => ({typed}) {{ {body} }}")
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    random = np.random.default_rng(0)
    for name, weight in weights.items():
        drawn = random.uniform(0.2, 1, weight).astype(np.float32) if isinstance(weight, tuple) else np.asarray(weight)
        model.graph.initializer.append(numpy_helper.from_array(drawn, name))
    return model


def coupled(
    inputs: str, body: str, outputs: str = "y", opset: int = 18, **weights: Weight
) -> tuple[Model, Channels, Mapping[str, ChannelGroup]]:
    model = from_proto(proto(inputs, body, outputs, opset, **weights))
    channels = couple(model)
    return model, channels, {group.id: group for group in channels.groups}


def ints(*values: int) -> NDArray[np.int64]:
    return np.asarray(values, np.int64)


def is_exact(model: Model, channels: Channels, kept: Mapping[str, tuple[int, ...]]) -> bool:
    """Cut and masked original agree, on exact groups."""
    return proven(model, channels, kept).relative_error < 1e-5
