"""What a graph alone can tell: which channels go together, which cannot be cut and why, and what it costs on paper."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.graph.channels import ChannelGroup
from pipeline.graph.flops import paper_cost
from pipeline.graph.labels import Blocks
from pipeline.stages.opening import open_model


def inspect(
    model: str, *, shapes: Mapping[str, Sequence[int]] | None = None, blocks: Blocks = "auto"
) -> dict[str, Any]:
    """`flops` (multiply-adds for one input at the bound shapes), `params`, every group of coupled channels, and
    the nodes that could not be followed (`not_followed`), each with its reason."""
    opened = open_model(model, shapes or {}, blocks=blocks)
    cost = paper_cost(opened.model)
    return {
        "model": model,
        "flops": cost.flops,
        "params": cost.params,
        "groups": [describe_group(group) for group in opened.channels.groups],
        "not_followed": list(opened.channels.refused),
    }


def describe_group(group: ChannelGroup) -> dict[str, Any]:
    """`width` counts indices of the tensor that makes the channels, `step` how many of them go together, `tensors` the
    initialiser axes that are cut. `locked` is a reason or null."""
    return {
        "id": group.id,
        "width": group.width,
        "step": group.step,
        "exact": group.exact,
        "locked": group.locked_because,
        "vanishes": group.vanishes,
        "tensors": [[piece.tensor, piece.axis] for piece in group.slices],
    }
