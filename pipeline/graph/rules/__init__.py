"""What each operator does to channel labels: one function an operator, one file a family, one table.

A rule takes the node and the labelling so far and returns the labels of the node's outputs. It may unite classes, say
where parameters are indexed by channels (`Use`), where channels are mixed (`ChannelRead`) and which constants count
them (`SizeEdit`). It never guesses: what it cannot follow it locks, with a reason.
"""

from collections.abc import Callable, Mapping

from pipeline.graph.labels import Labelling, Labels
from pipeline.graph.rules import elementwise, linear, movement, normalization, reduction, spatial
from pipeline.graph.rules.node import Node

Rule = Callable[[Node, Labelling], tuple[Labels | None, ...]]

RULES: Mapping[str, Rule] = {
    **linear.RULES,
    **normalization.RULES,
    **elementwise.RULES,
    **spatial.RULES,
    **reduction.RULES,
    **movement.RULES,
}


def follow(node: Node, run: Labelling) -> tuple[Labels | None, ...]:
    """Apply the node's rule, or lock what it touches because nobody knows the operator."""
    rule = RULES.get(node.op) if node.is_standard else None
    if rule is None:
        domain = "" if node.is_standard else f"{node.domain}."
        return lock_all(node, run, f"operator {domain}{node.op} ({node.name}) has no coupling rule")
    return rule(node, run)


def lock_all(node: Node, run: Labelling, reason: str) -> tuple[Labels | None, ...]:
    """Lock every labelled input, and pin every output."""
    for name in (*node.inputs, *node.captured):
        run.lock(run.tensors.get(name), reason)
    for name in node.outputs:
        run.pinned[name] = reason
    return (None,) * len(node.outputs)
