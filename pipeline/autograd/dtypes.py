"""Element types: ONNX numbers, numpy types and torch types, in one table."""

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from targets.errors import BadInput

TORCH_TYPES = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.BFLOAT16: torch.bfloat16,
    onnx.TensorProto.INT8: torch.int8,
    onnx.TensorProto.INT16: torch.int16,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.BOOL: torch.bool,
}
NUMPY_TYPES = {dtype: onnx.helper.tensor_dtype_to_np_dtype(number) for number, dtype in TORCH_TYPES.items()}


def torch_dtype(dtype: np.dtype[Any], what: str = "An array") -> torch.dtype:
    """The torch type of a numpy type; BadInput, about `what`, where torch has none to compute with."""
    try:
        return TORCH_TYPES[onnx.helper.np_dtype_to_tensor_dtype(dtype)]
    except (KeyError, ValueError) as error:
        raise BadInput(
            f"{what} has element type {dtype}, which torch does not compute with. Cast it to float32 or int64."
        ) from error


def to_torch(array: NDArray[Any], what: str = "An array") -> torch.Tensor:
    """A tensor with its own memory, same type, same bits. `what` names it in the error."""
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    torch_dtype(array.dtype, what)
    return torch.from_numpy(np.array(array, order="C", copy=True))


def to_numpy(tensor: torch.Tensor, dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
    """The tensor's numbers as `dtype` (None: its own), in C order."""
    dtype = NUMPY_TYPES[tensor.dtype] if dtype is None else dtype
    wide = tensor.detach().cpu()
    if wide.dtype == torch.bfloat16:
        wide = wide.float()
    return np.ascontiguousarray(wide.contiguous().numpy().astype(dtype, copy=False)).reshape(tuple(tensor.shape))
