"""Numbers that speak of sizes: shapes, axes, bounds, scales, and the arithmetic that graphs do on them.

They stay on the host, as numpy arrays, so that a graph's shape arithmetic (Shape, Gather, Concat, Reshape) follows
whatever batch comes in. Under torch.export the entries may be symbolic integers; the arrays are then of objects.
"""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import SymInt, Tensor

from pipeline.autograd.dtypes import torch_dtype


class Sizes:
    """An array of numbers known on the host; immutable by agreement. `dtype` is the ONNX-visible torch type."""

    def __init__(self, array: NDArray[Any], dtype: torch.dtype | None = None) -> None:
        self.array = array
        self.dtype = torch_dtype(array.dtype) if dtype is None else dtype

    @classmethod
    def of_shape(cls, shape: Iterable[int | SymInt]) -> "Sizes":
        entries = list(shape)
        symbolic = any(isinstance(entry, SymInt) for entry in entries)
        return cls(np.array(entries, dtype=object if symbolic else np.int64), torch.int64)

    @classmethod
    def of_tensor(cls, tensor: Tensor) -> "Sizes":
        """Copies the numbers to the host; bfloat16, which numpy lacks, widens."""
        wide = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        return cls(wide.detach().cpu().numpy())

    @cached_property
    def ints(self) -> tuple[int, ...]:
        """Flattened, as integers (or symbolic integers)."""
        return tuple(entry if isinstance(entry, SymInt) else int(entry) for entry in self.array.reshape(-1).tolist())

    @cached_property
    def floats(self) -> tuple[float, ...]:
        """Flattened, as floats."""
        return tuple(float(entry) for entry in self.array.reshape(-1).tolist())

    def tensor(self, device: torch.device | None = None) -> Tensor:
        """As a new tensor of the ONNX-visible type."""
        return torch.tensor(self.array.tolist(), dtype=self.dtype, device=device)


def truncated_quotient(a: Any, b: Any) -> Any:
    """ONNX divides integers towards zero; Python and numpy round down."""
    return a // b if (a >= 0) == (b > 0) else -(-a // b)


def _object_safe(function: Callable[..., Any], operands: int) -> Callable[..., Any]:
    return np.frompyfunc(function, operands, 1)


TRUNCATED_QUOTIENT = _object_safe(truncated_quotient, 2)


def divide(a: NDArray[Any], b: NDArray[Any], dtype: torch.dtype) -> NDArray[Any]:
    """Element by element; towards zero where `dtype` is an integer type."""
    if dtype.is_floating_point:
        return np.asarray(a / b)
    quotient = np.asarray(TRUNCATED_QUOTIENT(a, b), dtype=object)
    symbolic = a.dtype == object or b.dtype == object
    return quotient if symbolic else quotient.astype(np.result_type(a, b))


def cast(array: NDArray[Any], dtype: torch.dtype) -> NDArray[Any]:
    """To the numpy type that holds `dtype`; symbolic entries stay symbolic."""
    if array.dtype != object:
        return array.astype(torch.empty((), dtype=dtype).numpy().dtype)
    if dtype.is_floating_point:
        return np.asarray(_object_safe(torch.sym_float, 1)(array), dtype=object)
    return np.asarray(_object_safe(torch.sym_int, 1)(array), dtype=object)
