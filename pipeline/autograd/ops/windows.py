"""Sliding windows: strides, dilations and paddings as Conv, ConvTranspose and the pools all read them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from pipeline.autograd.node import Node


@dataclass(frozen=True)
class Window:
    """Attributes of a sliding window; None where the node leaves them to the kernel's rank."""

    auto_pad: str
    pads: tuple[int, ...] | None
    strides: tuple[int, ...] | None
    dilations: tuple[int, ...] | None

    def stride(self, rank: int) -> tuple[int, ...]:
        return self.strides or (1,) * rank

    def dilation(self, rank: int) -> tuple[int, ...]:
        return self.dilations or (1,) * rank

    def padding(self, spatial: Sequence[int], kernel: Sequence[int]) -> list[tuple[int, int]]:
        """(begin, end) per spatial axis, for this input size; SAME_* give ceil(size / stride) outputs."""
        rank = len(kernel)
        if self.auto_pad == "NOTSET":
            pads = self.pads or (0,) * (2 * rank)
            return list(zip(pads[:rank], pads[rank:], strict=True))
        if self.auto_pad == "VALID":
            return [(0, 0)] * rank
        pairs = []
        extents = extent(kernel, self.dilation(rank))
        for size, stride, reach in zip(spatial, self.stride(rank), extents, strict=True):
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
            small, large = total // 2, total - total // 2
            pairs.append((small, large) if self.auto_pad == "SAME_UPPER" else (large, small))
        return pairs


def read_window(node: Node) -> Window:
    """The window attributes of a node; an unknown auto_pad is refused."""
    auto_pad = node.attributes.get("auto_pad", "NOTSET")
    if auto_pad not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise node.refusal(f"auto_pad {auto_pad!r} is unknown")
    pads, strides, dilations = (node.attributes.get(name) for name in ("pads", "strides", "dilations"))
    return Window(
        auto_pad,
        None if pads is None else tuple(pads),
        None if strides is None else tuple(strides),
        None if dilations is None else tuple(dilations),
    )


def extent(kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """How far a dilated kernel reaches along each axis."""
    return [(size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True)]


def is_symmetric(padding: Sequence[tuple[int, int]]) -> bool:
    return all(begin == end for begin, end in padding)


def pad(x: Tensor, padding: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """Pads (or, where negative, crops) the trailing axes; `padding` is (begin, end) per axis, first axis first."""
    flat = [amount for pair in reversed(padding) for amount in pair]
    return F.pad(x, flat, value=value) if any(flat) else x
