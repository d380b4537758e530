"""What each operator does to channel labels: one function an operator, one file a family, one table.

A rule takes the node and the labelling so far and returns the labels of the node's outputs. It may unite classes, say
where parameters are indexed by channels (`Use`), where channels are mixed (`ChannelRead`) and which constants count
them (`SizeEdit`). It never guesses: what it cannot follow it locks, with a reason.
"""

from collections.abc import Callable, Mapping

from pipeline.graph.labels import Labelling
from pipeline.graph.rules import (
    along,
    attention,
    blocks,
    elementwise,
    fused,
    joining,
    linear,
    locking,
    movement,
    normalization,
    quantized,
    recurrent,
    reduction,
    sampling,
    scatter,
    spatial,
)
from pipeline.graph.rules.node import Node, Outputs, refuse
from pipeline.graph.rules.sizes import follow_sizes

# No network has so many channels, even flattened with their space; a label for each would fill the memory.
MAX_FOLLOWED = 2**22

Rule = Callable[[Node, Labelling], Outputs]

FAMILIES = (
    linear, normalization, elementwise, spatial, sampling, reduction, movement, joining, blocks, along,
    attention, scatter, recurrent, quantized, locking,
)  # fmt: skip
# (domain, operator); "" is the standard domain.
RULES: Mapping[tuple[str, str], Rule] = {
    **{("", operator): rule for family in FAMILIES for operator, rule in family.RULES.items()},
    **{("com.microsoft", operator): rule for operator, rule in fused.MICROSOFT_RULES.items()},
    **{("com.microsoft", operator): rule for operator, rule in quantized.MICROSOFT_RULES.items()},
}


def follow(node: Node, run: Labelling) -> Outputs:
    """Apply the node's rule, or lock what it touches because nobody knows the operator."""
    sized = follow_sizes(node, run)
    if sized is not None:
        return sized
    rule = RULES.get((node.domain, node.op))
    if rule is None:
        return refuse(node, run, "is an operator without a coupling rule")
    longest = max((size for name in node.outputs for size in node.shapes.get(name, ())), default=0)
    labelled = [name for name in node.inputs if run.tensors.get(name) is not None]
    if any(0 in node.shapes.get(name, ()) for name in (*labelled, *node.outputs)):
        return refuse(node, run, "reads or makes a tensor without elements")
    if node.op != "MaxUnpool" and any(name in run.numbered for name in node.inputs):
        return refuse(node, run, "reads the positions of a pooling's maxima, which number all channels")
    if labelled and longest > MAX_FOLLOWED:
        return refuse(node, run, f"makes an axis of {longest} entries, which is too long to follow")
    return rule(node, run)
