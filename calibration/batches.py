"""What every stage that needs data reads: examples by index, and batches of them.

A source of samples answers three questions (how many, labelled or not, these ones please); shuffling, batching and
taking a subset are the same for all of them and live here.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from targets.errors import BadInput


@dataclass(frozen=True)
class InputSpec:
    """One input of the network. Axis 0 of `shape` is the batch; None is a free axis; `dtype` is numpy's name."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class Batch(NamedTuple):
    """`inputs`: name -> (batch, ...), in the order of the network's inputs. `labels`: int64 (batch, ...) or None."""

    inputs: dict[str, NDArray[np.generic]]
    labels: NDArray[np.int64] | None


class Samples(ABC):
    """Examples that fit the network's inputs, addressed 0 .. len - 1.

    `read` may be called any number of times, in any order, and gives the same values for the same indices; the arrays
    it returns are the caller's to keep and must not be written to. What cannot be read is a BadInput that names it.
    """

    @property
    @abstractmethod
    def labelled(self) -> bool:
        """True where every batch carries labels."""

    @property
    def most(self) -> int | None:
        """How many examples the network takes at once; None: any number."""
        return None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, indices: NDArray[np.int64]) -> Batch:
        """The examples at `indices`, in that order."""

    @final
    def batches(self, size: int, *, seed: int | None = None, drop_last: bool = False) -> Iterator[Batch]:
        """Every example once, `size` at a time or as many as the network takes; in order, or shuffled by `seed`.
        `drop_last`: no short batch."""
        if size < 1:
            raise BadInput(f"A batch of {size} examples was asked for. Give a batch size of at least 1.")
        size = min(size, self.most or size)
        for indices in split(order(len(self), seed), size, drop_last=drop_last):
            yield self.read(indices)


def order(count: int, seed: int | None) -> NDArray[np.int64]:
    """0 .. count - 1, shuffled by `seed` where one is given."""
    if seed is None:
        return np.arange(count, dtype=np.int64)
    return np.random.default_rng(seed).permutation(count).astype(np.int64, copy=False)


def split(indices: NDArray[np.int64], size: int, *, drop_last: bool = False) -> Iterator[NDArray[np.int64]]:
    """`indices` cut into runs of `size`; the last may be shorter unless `drop_last`."""
    end = len(indices) - len(indices) % size if drop_last else len(indices)
    for start in range(0, end, size):
        yield indices[start : start + size]


def take(samples: Samples, count: int, seed: int = 0) -> Samples:
    """A random subset of `count` examples, without repetition; all of them where there are no more."""
    if count < 1:
        raise BadInput(f"A subset of {count} examples was asked for. Give a count of at least 1.")
    if count >= len(samples):
        return samples
    chosen = order(len(samples), seed)[:count]
    chosen.sort()
    return Subset(samples, chosen)


@final
class Subset(Samples):
    """The examples of `samples` at `places`, in that order."""

    def __init__(self, samples: Samples, places: NDArray[np.int64]) -> None:
        self._samples = samples
        self._places = places

    @property
    def labelled(self) -> bool:
        return self._samples.labelled

    @property
    def most(self) -> int | None:
        return self._samples.most

    def __len__(self) -> int:
        return len(self._places)

    def read(self, indices: NDArray[np.int64]) -> Batch:
        return self._samples.read(self._places[indices])


@final
class OneByOne(Samples):
    """The examples of `samples` for a network that takes one at a time."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    @property
    def labelled(self) -> bool:
        return self._samples.labelled

    @property
    def most(self) -> int | None:
        return 1

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, indices: NDArray[np.int64]) -> Batch:
        return self._samples.read(indices)
