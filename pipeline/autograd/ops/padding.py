"""Pad: constant, and the modes that repeat the input."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pipeline.autograd.node import Node, Operation, Rule
from pipeline.autograd.ops.windows import pad
from pipeline.autograd.sizes import Sizes


def _pad(node: Node) -> Operation:
    mode, given_value = node.attributes.get("mode", "constant"), node.attributes.get("value", 0.0)
    given_pads = node.attributes.get("pads", node.attributes.get("paddings"))
    if mode != "constant" and mode not in MODES:
        raise node.refusal(f"mode {mode!r} is unknown")

    def apply(x: Tensor, pads: Sizes | None = None, value: Sizes | None = None, axes: Sizes | None = None) -> Tensor:
        amounts = given_pads if pads is None else pads.ints
        chosen = range(x.dim()) if axes is None else axes.ints
        padding = [(0, 0)] * x.dim()
        for position, axis in enumerate(chosen):
            padding[axis] = (amounts[position], amounts[position + len(amounts) // 2])
        if mode == "constant":
            fill = given_value if value is None else value.entries[0]
            return pad(x, padding, fill)
        return _repeat(x, padding, mode)

    return apply


def _reflected(at: Tensor, size: int) -> Tensor:
    return (size - 1) - ((at % max(2 * size - 2, 1)) - (size - 1)).abs()


# position counted from the first entry, size -> the position that is read
MODES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "edge": lambda at, size: at.clamp(0, size - 1),
    "reflect": _reflected,
    "wrap": lambda at, size: at % size,
}


def _repeat(x: Tensor, padding: Sequence[tuple[int, int]], mode: str) -> Tensor:
    """Reads each axis beyond its ends as the mode says; negative amounts crop first."""
    for axis, (begin, end) in enumerate(padding):
        if begin == end == 0:
            continue
        first, last = max(-begin, 0), x.shape[axis] - max(-end, 0)
        at = torch.arange(-max(begin, 0), last - first + max(end, 0), device=x.device)
        x = x.index_select(axis, first + MODES[mode](at, last - first))
    return x


RULES: dict[str, Rule] = {
    "Pad": Rule(_pad, sizes=frozenset({1, 2, 3})),
}
