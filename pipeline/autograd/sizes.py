"""Numbers that speak of sizes: shapes, axes, bounds, scales.

They stay on the host as plain Python numbers, so that a graph's shape arithmetic (Shape, Gather, Concat, Reshape)
follows whatever batch comes in, and so that torch.compile and torch.export can trace through it: there the entries are
symbolic integers, which arrays could not hold.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.autograd.dtypes import torch_dtype

Index = tuple[int, ...]


@dataclass(frozen=True)
class Sizes:
    """A small array of numbers known on the host: `entries` in C order, `dtype` the ONNX-visible type."""

    shape: Index
    entries: tuple[Any, ...]
    dtype: torch.dtype

    @classmethod
    def of_array(cls, array: NDArray[Any], what: str = "An array") -> "Sizes":
        """`what` names the array in the error about its type."""
        return cls(tuple(array.shape), tuple(array.reshape(-1).tolist()), torch_dtype(array.dtype, what))

    @classmethod
    def of_shape(cls, shape: Iterable[int]) -> "Sizes":
        entries = tuple(shape)
        return cls((len(entries),), entries, torch.int64)

    @classmethod
    def of_tensor(cls, tensor: Tensor) -> "Sizes":
        """Copies the numbers to the host."""
        return cls(tuple(tensor.shape), tuple(tensor.detach().reshape(-1).tolist()), tensor.dtype)

    @classmethod
    def of_function(cls, shape: Index, entry: Callable[[Index], Any], dtype: torch.dtype) -> "Sizes":
        """The array whose entry at each index is `entry(index)`."""
        return cls(shape, tuple(entry(index) for index in indices_of(shape)), dtype)

    def at(self, index: Index) -> Any:
        """The entry at `index`, which may be longer than the shape or lie in a broadcast axis, as in numpy."""
        flat = 0
        for position, size in zip(index[len(index) - len(self.shape) :], self.shape, strict=True):
            flat = flat * size + (position if size != 1 else 0)
        return self.entries[flat]

    @property
    def ints(self) -> tuple[int, ...]:
        """The entries as integers (or symbolic integers)."""
        whole = not self.dtype.is_floating_point and self.dtype != torch.bool
        return self.entries if whole else tuple(int(entry) for entry in self.entries)

    @property
    def floats(self) -> tuple[float, ...]:
        """The entries as floats."""
        return self.entries if self.dtype.is_floating_point else tuple(float(entry) for entry in self.entries)

    def array(self) -> NDArray[Any]:
        """As a numpy array of Python's widest type for the entries."""
        return np.array(self.entries).reshape(self.shape)

    def tensor(self, device: torch.device | None = None) -> Tensor:
        """As a new tensor of the ONNX-visible type."""
        return torch.tensor(self.entries, dtype=self.dtype, device=device).reshape(self.shape)


def indices_of(shape: Sequence[int]) -> list[Index]:
    """All indices of an array of this shape, in C order."""
    indices: list[Index] = [()]
    for size in shape:
        indices = [(*index, position) for index in indices for position in range(size)]
    return indices


def broadcast_shape(shapes: Sequence[Index]) -> Index:
    """The shape that arrays of these shapes broadcast to."""
    rank = max(len(shape) for shape in shapes)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    result = []
    for sizes in zip(*padded, strict=True):
        longer = [size for size in sizes if size != 1]
        result.append(longer[0] if longer else 1)
    return tuple(result)


def product_of(numbers: Iterable[Any]) -> Any:
    """Their product, 1 for none."""
    result: Any = 1
    for number in numbers:
        result = result * number
    return result
