"""Parameters as their reader sees them: an initialiser, or one that is dequantised or cast on its way.

Where each element is computed from its own one alone, an index of an axis is an index of the initialiser's axis, and of
the scale and the zero point that go with it.
"""

from pipeline.graph.labels import Home, Labelling, Labels, Parameter, Role, Use
from pipeline.graph.rules.node import Node


def parameter(node: Node, run: Labelling, number: int) -> Parameter | None:
    """Input `number` where it is a parameter whose axes can be cut; None for an activation."""
    if not node.has(number):
        return None
    name = node.inputs[number]
    if name in node.constants and name not in run.parameters:  # operators on integers have said more of their own
        return tuple((Home(name, axis, rides=False),) for axis in range(len(node.constants[name].dims)))
    return run.parameters.get(name)


def use(node: Node, run: Labelling, number: int, axis: int, labels: Labels, role: Role) -> None:
    """Say that input `number`, a parameter, is indexed along `axis` by channels; its scales ride along."""
    found = parameter(node, run, number)
    assert found is not None, f"input {number} of {node.name} is no parameter"
    homes = found[axis]
    if isinstance(homes, str):
        run.lock(labels, f"{node.op} ({node.name}) has a parameter that {homes}")
        return
    for home in homes:
        run.uses.append(Use(home.tensor, home.axis, labels, "rides" if home.rides else role))
