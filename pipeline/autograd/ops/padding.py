"""Pad: constant, and the modes that repeat the input."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.autograd.node import Node, Operation, Rule
from pipeline.autograd.ops.windows import pad
from pipeline.autograd.sizes import Sizes

NUMPY_MODES = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def _pad(node: Node) -> Operation:
    mode, given_value = node.attributes.get("mode", "constant"), node.attributes.get("value", 0.0)
    given_pads = node.attributes.get("pads", node.attributes.get("paddings"))
    if mode != "constant" and mode not in NUMPY_MODES:
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


def _repeat(x: Tensor, padding: Sequence[tuple[int, int]], mode: str) -> Tensor:
    """Reads each axis at the indices that numpy's mode of the same name gives; negative amounts crop."""
    for axis, (begin, end) in enumerate(padding):
        if begin == end == 0:
            continue
        indices = np.arange(x.shape[axis])
        indices = indices[max(-begin, 0) : len(indices) - max(-end, 0)]
        widths = (max(begin, 0), max(end, 0))
        indices = np.pad(indices, widths, mode=NUMPY_MODES[mode])  # type: ignore[call-overload]
        x = x.index_select(axis, torch.tensor(indices.tolist(), dtype=torch.int64, device=x.device))
    return x


RULES: dict[str, Rule] = {
    "Pad": Rule(_pad, sizes=frozenset({1, 2, 3})),
}
