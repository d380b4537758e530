"""Which initialisers are parameters: those that sit where weights, biases, affines and slopes sit."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from pipeline.autograd.node import Node
from targets.errors import BadInput

# op type -> inputs where a float initialiser is trained, and how many elements it needs to be one
PARAMETER_INPUTS: dict[str, tuple[tuple[int, ...], int]] = {
    "Add": ((0, 1), 2),  # a lone number there is a constant of the formula, not a weight
    "BatchNormalization": ((1, 2), 1),
    "Conv": ((1, 2), 1),
    "ConvTranspose": ((1, 2), 1),
    "Div": ((0, 1), 2),
    "Gather": ((0,), 2),
    "Gemm": ((0, 1, 2), 1),
    "GroupNormalization": ((1, 2), 1),
    "InstanceNormalization": ((1, 2), 1),
    "LayerNormalization": ((1, 2), 1),
    "MatMul": ((0, 1), 1),
    "Mul": ((0, 1), 2),
    "PRelu": ((1,), 1),
    "Sub": ((0, 1), 2),
}
STATISTICS: dict[str, tuple[int, ...]] = {"BatchNormalization": (3, 4)}


def find_parameters(nodes: Sequence[tuple[Node, frozenset[int]]], floats: Mapping[str, NDArray[Any]]) -> frozenset[str]:
    """Names out of `floats` (float initialisers) to train; nodes come with the inputs that are sizes, in graph order.

    A weight that is computed in the graph (weight standardisation) counts through: what it is computed from is trained.
    BadInput where one initialiser is both a weight and a running statistic.
    """
    derived = set(floats)
    for node, sizes in nodes:
        names = [name for index, name in enumerate(node.inputs) if name and index not in sizes]
        if names and all(name in derived for name in names):
            derived.update(node.outputs)
    parameters: set[str] = set()
    statistics: set[str] = set()
    for node, sizes in reversed(nodes):
        own = STATISTICS.get(node.op, ())
        inputs = {index: name for index, name in enumerate(node.inputs) if name in derived and index not in sizes}
        statistics.update(name for index, name in inputs.items() if index in own)
        if any(name in parameters for name in node.outputs):
            at, least = tuple(inputs), 2
        else:
            at, least = PARAMETER_INPUTS.get(node.op, ((), 1))
        for index in set(at).intersection(inputs).difference(own):
            if inputs[index] not in floats or floats[inputs[index]].size >= least:
                parameters.add(inputs[index])
    for name in sorted(parameters & statistics & set(floats)):
        raise BadInput(
            f"Initialiser {name} is a running statistic and a weight at once. Give each reader its own copy."
        )
    return frozenset(parameters & set(floats))
