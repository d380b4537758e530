"""Static int8: quantise / dequantise pairs in the ONNX graph, weights by channel, activations by the ranges found.

The nodes are put in by ONNX Runtime's quantiser, which knows operator by operator where pairs belong; the ranges are
ours (see `ranges`), so that one calibration serves every runtime.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from calibration.ranges import Range
from targets.errors import BadInput
from targets.protocol import one_line


@dataclass(frozen=True)
class Scheme:
    """What a runtime's int8 kernels want.

    `activations`: "uint8", with a zero point, or "int8", symmetric about zero. `bias`: quantised to int32, or left in
    floating point. `outputs`: whether what a convolution gives is quantised right behind it, before what it is fused
    with. `narrow`: weights in seven bits, for processors whose int8 products overflow 16 bits (x86 without VNNI).
    """

    activations: str = "uint8"
    bias: bool = True
    outputs: bool = True
    narrow: bool = False


SCHEMES: Mapping[str, Scheme] = {
    "onnxruntime": Scheme(),
    "ort": Scheme(),
    "openvino": Scheme(bias=False),
    "tensorrt": Scheme("int8", bias=False, outputs=False),
    "tensorrt-rtx": Scheme("int8", bias=False, outputs=False),
}

OPERATORS = (
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool",
    "Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSwish", "HardSigmoid", "Reshape", "Flatten", "Transpose", "Squeeze",
    "Unsqueeze", "Split", "Pad", "Resize",
)  # fmt: skip
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def quantised(
    model: onnx.ModelProto, ranges: Mapping[str, Range], scheme: Scheme, exclude: Collection[str] = ()
) -> onnx.ModelProto:
    """`model` (fp32, batch-norm folded, every node named) with pairs around what is computed in int8. `ranges`: of
    every float tensor that is no weight. `exclude`: names of nodes that stay in floating point."""
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    symmetric = scheme.activations == "int8"
    options: dict[str, Any] = {
        "ActivationSymmetric": symmetric,
        "WeightSymmetric": True,
        "QuantizeBias": scheme.bias,
        "OpTypesToExcludeOutputQuantization": [] if scheme.outputs else list(WEIGHTED),
    }
    extremes = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    quantizer = QDQQuantizer(
        copy,
        True,  # weights by channel
        scheme.narrow,
        QuantType.QInt8,
        QuantType.QInt8 if symmetric else QuantType.QUInt8,
        TensorsData(CalibrationMethod.MinMax, extremes),
        None,
        list(exclude),
        list(OPERATORS),
        options,
    )
    try:
        quantizer.quantize_model()
    except (ValueError, RuntimeError, KeyError) as failure:
        raise BadInput(
            f"The network cannot be quantised: {one_line(str(failure))} Exclude the node: --exclude-int8 NAME"
        ) from failure
    quantizer.model.topological_sort()  # it puts its nodes at the end
    made: onnx.ModelProto = quantizer.model.model
    return made
