"""Integer labels on channels, and the classes they fall into.

A tensor's labels are an int32 array of the tensor's own shape that says, for every element, which channel it belongs
to. Axes along which nothing changes are broadcast (stride 0), so a 64 x 112 x 112 tensor costs 64 integers. None in
place of an array says: nobody may cut this tensor.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.graph.channels import Labels as Labels
from targets.errors import BadInput

Role = Literal["makes", "reads", "rides"]
# Where channels lie in blocks (groups of a convolution or a norm, attention heads): remove the same inner channels of
# every block, or whole blocks; "auto" is what stays exact, then whichever leaves more choices.
Blocks = Literal["auto", "inside", "whole"]

MAX_LABELS = 2**27  # the widest networks have a few hundred thousand; half a gigabyte goes with this many


class LabelClasses:
    """Union-find over labels, an array at a time. The smallest label of a class stands for it."""

    def __init__(self) -> None:
        self._parent: Labels = np.zeros(0, np.int32)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def fresh(self, count: int) -> Labels:
        """`count` labels that nobody has seen."""
        first, self._count = self._count, self._count + count
        if self._count > MAX_LABELS:
            raise BadInput(f"The model has more than {MAX_LABELS} channels: its shapes cannot be right.")
        if self._count > len(self._parent):
            grown = np.arange(max(1024, 2 * self._count), dtype=np.int32)
            grown[:first] = self._parent[:first]
            self._parent = grown
        return np.arange(first, self._count, dtype=np.int32)

    def find(self, labels: NDArray[np.integer]) -> Labels:
        """The class of each label, as its smallest member."""
        roots: Labels = self._parent[labels]
        while True:
            above = self._parent[roots]
            if np.array_equal(above, roots):
                break
            roots = above
        self._parent[labels] = roots
        return roots

    def unite(self, first: NDArray[np.integer], second: NDArray[np.integer]) -> None:
        """Element by element: from now on `first[i]` and `second[i]` are one class."""
        a, b = (np.ravel(side) for side in np.broadcast_arrays(first, second))
        while True:  # a class that several others want to swallow at once takes the smallest; the rest come next round
            a, b = self.find(a), self.find(b)
            differ = a != b
            if not differ.any():
                return
            a, b = a[differ], b[differ]
            np.minimum.at(self._parent, np.maximum(a, b), np.minimum(a, b))


@dataclass(frozen=True, eq=False)
class Use:
    """A parameter, indexed by channels along `axis`: `labels[i]` belongs to index i."""

    tensor: str
    axis: int
    labels: Labels
    role: Role


@dataclass(frozen=True, eq=False)
class ChannelRead:
    """Node `node` mixes the channels that its input number `input` carries along `axis`.

    `statistics`: a removed channel cannot be zeroed there, since the node takes a mean or a softmax of them.
    """

    node: str
    input: int
    tensor: str
    axis: int
    labels: Labels
    statistics: bool = False


@dataclass(frozen=True, eq=False)
class SizeEdit:
    """An entry of a constant, or an attribute, that counts channels: after a cut it counts the kept ones of `labels`.

    `where` is ("input", number) or ("attribute", name). With `position` None the whole entry is a scalar. `labels` is
    (index x labels sharing it); an index counts as long as one of its labels is kept.
    """

    node: str
    where: tuple[Literal["input"], int] | tuple[Literal["attribute"], str]
    position: int | None
    labels: Labels


@dataclass(frozen=True, eq=False)
class IndexEdit:
    """A constant that names channels by number (Gather): entries of dropped ones go, the others are renumbered."""

    node: str
    input: int
    source: Labels


@dataclass(frozen=True)
class Home:
    """An axis of an initialiser that is cut together with an axis of what is computed from it.

    `rides`: the initialiser is a scale or a zero point of the values, not the values themselves.
    """

    tensor: str
    axis: int
    rides: bool


# For each axis of a parameter, where its indices live; in place of them a sentence where nobody may cut the axis.
Parameter = tuple[tuple[Home, ...] | str, ...]


@dataclass(eq=False)
class Labelling:
    """What one run over the graph collects; the rules write here and nowhere else."""

    blocks: Blocks = "auto"
    classes: LabelClasses = field(default_factory=LabelClasses)
    uses: list[Use] = field(default_factory=list)
    reads: list[ChannelRead] = field(default_factory=list)
    sizes: list[SizeEdit] = field(default_factory=list)
    indices: list[IndexEdit] = field(default_factory=list)
    tensors: dict[str, Labels | None] = field(default_factory=dict)
    locks: list[tuple[Labels, str]] = field(default_factory=list)
    inexact: list[Labels] = field(default_factory=list)
    numbered: dict[str, tuple[int, ...]] = field(default_factory=dict)  # tensors of flat positions in this shape
    pinned: dict[str, str] = field(default_factory=dict)  # tensors without labels: why nobody may cut them
    balanced: list[Labels] = field(default_factory=list)  # (blocks x channels): every block loses equally many
    refused: list[str] = field(default_factory=list)  # what could not be followed, in order
    counts: dict[str, tuple[Labels | None, ...]] = field(default_factory=dict)  # lists of sizes: what each entry counts
    parameters: dict[str, Parameter] = field(default_factory=dict)  # computed from initialisers alone, index by index

    def lock(self, labels: Labels | None, reason: str) -> None:
        """Nobody cuts these, and this is why. The first reason stays."""
        if labels is not None:
            self.locks.append((compact(labels), reason))

    def mark_inexact(self, labels: Labels) -> None:
        self.inexact.append(compact(labels))

    def whole_blocks(self, blocks: int, inner: int) -> bool:
        """Whether `blocks` blocks of `inner` channels each are removed whole."""
        return self.blocks == "whole" or (self.blocks == "auto" and blocks > inner)

    def fresh_axis(self, shape: Sequence[int], axis: int) -> Labels:
        """New labels along `axis` of a tensor of `shape`."""
        line = [1] * len(shape)
        line[axis] = shape[axis]
        return np.broadcast_to(self.classes.fresh(shape[axis]).reshape(line), tuple(shape))

    def along(self, labels: Labels, axis: int) -> Labels:
        """One label for each index of `axis`. Labels that share an index become one class."""
        lines = _lines(compact(labels), axis)
        if lines.shape[1] > 1:
            self.classes.unite(lines[:, :1], lines)
        first = lines[:, 0]
        return np.broadcast_to(first, (labels.shape[axis],)) if len(first) == 1 else first

    def settled(self, labels: Labels) -> Labels:
        """The labels with axes dropped along which they became one class since."""
        if len(labelled_axes(labels)) < 2:
            return labels
        return simplify(np.broadcast_to(self.classes.find(compact(labels)), labels.shape))

    def merged(self, labels: Labels, axes: Iterable[int]) -> Labels:
        """The labels after everything along `axes` became one class: nothing changes along them any more."""
        small = compact(labels)
        for axis in axes:
            head = small.take([0], axis=axis)
            if small.shape[axis] > 1:
                self.classes.unite(head, small)
            small = head
        return np.broadcast_to(small, labels.shape)


def compact(labels: Labels) -> Labels:
    """The same labels with every axis along which nothing changes cut to length one."""
    index = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in labels.strides)
    return labels[index]


def simplify(labels: Labels) -> Labels:
    """Find the axes along which nothing changes any more, and make them stride 0 again."""
    small = compact(labels)
    for axis, size in enumerate(small.shape):
        if size > 1:
            head = small.take([0], axis=axis)
            if np.array_equal(np.broadcast_to(head, small.shape), small):
                small = head
    return np.broadcast_to(np.array(small, order="C"), labels.shape)


def labelled_axes(labels: Labels) -> tuple[int, ...]:
    """The axes along which labels change."""
    return tuple(axis for axis, size in enumerate(compact(labels).shape) if size > 1)


def index_labels(labels: Labels, axis: int) -> Labels:
    """All labels at each index of `axis`: (length of the axis, elements that share an index)."""
    lines = _lines(compact(labels), axis)
    return np.broadcast_to(lines, (labels.shape[axis], lines.shape[1]))


def _lines(small: Labels, axis: int) -> Labels:
    """(index of `axis`, all elements that share it)."""
    if small.size == small.shape[axis]:  # by far the most common, and moving axes about costs more than all the rest
        return small.reshape(-1, 1)
    return np.moveaxis(small, axis, 0).reshape(small.shape[axis], -1)
