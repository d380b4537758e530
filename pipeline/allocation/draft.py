"""Columns and rows of a mixed-integer program, collected while it is written down."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Columns = NDArray[np.int64]  # column numbers, in any shape


@dataclass
class Draft:
    """Rows are low <= factors . columns <= high; every column lies between 0 and 1 unless stated otherwise."""

    columns: int = 0
    integer: list[Columns] = field(default_factory=list)
    row: list[Columns] = field(default_factory=list)
    column: list[Columns] = field(default_factory=list)
    factor: list[Array] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    def add(self, *shape: int, integer: bool = False) -> Columns:
        """New columns, numbered in `shape`."""
        count = int(np.prod(shape))
        columns = np.arange(self.columns, self.columns + count)
        self.columns += count
        self.integer.append(np.full(count, int(integer)))
        return columns.reshape(shape)

    def constrain(self, terms: Sequence[tuple[Columns, Array]], low: float, high: float) -> None:
        """One row; `terms` are pairs of columns and factors of equal size."""
        for columns, factors in terms:
            self.row.append(np.full(columns.size, len(self.low)))
            self.column.append(columns.ravel())
            self.factor.append(factors.ravel())
        self.low.append(low)
        self.high.append(high)

    def equate(self, columns: Columns, total: int) -> None:
        """The columns add up to column `total`."""
        self.constrain([(columns, np.ones(columns.size)), (np.array([total]), np.array([-1.0]))], 0.0, 0.0)

    def one_of(self, columns: Columns) -> None:
        """Exactly one of the columns is chosen."""
        self.constrain([(columns, np.ones(columns.size))], 1.0, 1.0)

    def join(self, parts: Sequence[Columns]) -> Columns:
        """One column per combination of the parts' columns; summed over all other axes they are each part's own."""
        if len(parts) == 1:
            return parts[0]
        joint = self.add(*(part.size for part in parts))
        for axis, part in enumerate(parts):
            for index, column in enumerate(part):
                self.equate(np.take(joint, index, axis=axis), int(column))
        return joint
