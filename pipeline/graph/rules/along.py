"""Operators that work along some axes and leave the others alone: channels pass beside them, and never through."""

from collections.abc import Callable

from pipeline.graph.labels import Labelling, labelled_axes
from pipeline.graph.rules.node import Node, Outputs, like, lock_others, refuse

# The axes that a node works along on an input of that many axes; None where the graph computes them.
Axes = Callable[[Node, int], set[int] | None]


def _named(attribute: str, default: int, number: int | None = None) -> Axes:
    """One axis, given by an attribute, or by input `number` in the operator sets where it is one."""

    def axes(node: Node, rank: int) -> set[int] | None:
        given = node.integers(number, attribute) if number is not None else [node.attributes.get(attribute, default)]
        if given is None:
            return None if number is not None and node.has(number) else {default % rank}
        return {int(axis) % rank for axis in given}

    return axes


def _last_two(node: Node, rank: int) -> set[int]:
    return {rank - 2, rank - 1}


def _largest_axes(node: Node, rank: int) -> set[int]:
    """Hardmax, like Softmax, runs over all axes from `axis` on before opset 13."""
    axis = int(node.attributes.get("axis", -1 if node.opset >= 13 else 1)) % rank
    return {axis} if node.opset >= 13 else set(range(axis, rank))


def _transformed(node: Node, rank: int) -> set[int] | None:
    """The transformed axis, and the last one, which holds real and imaginary parts."""
    axes = _named("axis", 1)(node, rank) if node.opset < 20 else _named("axis", -2, 2)(node, rank)
    return None if axes is None else axes | {rank - 1}


def _sequences(node: Node, rank: int) -> set[int]:
    return {int(node.attributes.get("time_axis", 0)), int(node.attributes.get("batch_axis", 1))}


def _all_or_one(node: Node, rank: int) -> set[int]:
    return {int(node.attributes["axis"]) % rank} if "axis" in node.attributes else set(range(rank))


def _listed(node: Node, rank: int) -> set[int]:
    return {int(axis) % rank for axis in node.attributes.get("axes", range(rank))}


# For each operator its axes, and why it cannot be followed where channels lie on one of them.
ALONG: dict[str, tuple[Axes, str]] = {
    "TopK": (_named("axis", -1), "ranks the channels"),
    "Hardmax": (_largest_axes, "picks the largest of all channels"),
    "CumSum": (_named("axis", 0, 1), "adds one channel after the other"),
    "CumProd": (_named("axis", 0, 1), "multiplies one channel after the other"),
    "Trilu": (_last_two, "keeps channels by their number"),
    "DFT": (_transformed, "transforms along the channels"),
    "ReverseSequence": (_sequences, "turns the order of channels around"),
    "Compress": (_all_or_one, "keeps channels by their number"),
    "CenterCropPad": (_listed, "crops or pads the channels"),
}


def along(node: Node, run: Labelling) -> Outputs:
    """Passes channels on; along the channels themselves it cannot be followed."""
    find, why = ALONG[node.op]
    lock_others(node, run)
    labels = node.labels(run)
    if labels is None:
        return (None,) * len(node.outputs)
    axes = find(node, labels.ndim)
    if axes is None:
        return refuse(node, run, "cannot be followed: its axis is computed in the graph")
    if axes.intersection(labelled_axes(labels)):
        return refuse(node, run, why)
    made = tuple(like(labels, node.output_shape(number)) for number in range(len(node.outputs)))
    if any(labels is None and name for labels, name in zip(made, node.outputs, strict=True)):
        return refuse(node, run, "cannot be followed: the shape it makes is not known")
    return made


RULES = dict.fromkeys(ALONG, along)
