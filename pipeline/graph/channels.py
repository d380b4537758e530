"""What the coupling analysis finds: groups of channels that can only be removed together.

A *channel* here is a coupled channel: one class of labels, removed as a whole. It occupies `step` neighbouring or
scattered indices of the tensor that produces it (one for plain convolutions, a whole block when a grouped convolution
loses whole groups).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int32]
Kept = Mapping[str, tuple[int, ...]]  # group id -> channels kept, ascending, each in range(group.channels)


@dataclass(frozen=True, eq=False)
class AxisSlice:
    """Where a group's channels lie on one axis of one initialiser.

    `channel[i]` is the channel (0 .. group.channels - 1) that index `i` of the axis belongs to, or -1 when that index
    belongs to another group. `role`: "makes" (output side of a producer's weight or bias), "reads" (input side of a
    consumer's weight) or "rides" (batch-norm affine, slope, any other per-channel constant).
    """

    tensor: str
    axis: int
    channel: NDArray[np.int64]
    role: Literal["makes", "reads", "rides"]


@dataclass(frozen=True, eq=False)
class Read:
    """An activation read by an operator that mixes channels: input `input` of node `node`, along `axis`.

    This is where a removed channel is zeroed in the masked original, and where a gate on the channel sits.
    `channel[i]` as in AxisSlice. `tensor` is the activation's name. With `statistics` the operator takes a mean, a norm
    or a softmax of the channels: there the masked original leaves the removed ones out instead.
    """

    node: str
    input: int
    tensor: str
    axis: int
    channel: NDArray[np.int64]
    statistics: bool = False


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Coupled channels: cut the same ones from every slice, or none.

    `id` is the name of the tensor that first carries the channels. `width` counts indices of that tensor, `step` how
    many of them one channel takes, so `channels == width // step`. `locked_because` is a sentence for a person, or
    None. `exact` is False where a norm or softmax runs over the cut axis. `vanishes_with` is None where at least one
    channel must stay; the group's own id where width zero is legal (a residual branch goes); another group's id where
    this one lies inside that branch and goes with it, never alone.
    """

    id: str
    width: int
    step: int
    slices: tuple[AxisSlice, ...]
    reads: tuple[Read, ...]
    locked_because: str | None = None
    exact: bool = True
    vanishes_with: str | None = None

    @property
    def channels(self) -> int:
        return self.width // self.step

    @property
    def vanishes(self) -> bool:
        """Whether width zero is a legal width of this group by itself."""
        return self.vanishes_with == self.id
