"""Parameters as their reader sees them: an initialiser, or one that is dequantised, cast or scaled on its way.

Where each element is computed from its own one alone, an index of an axis is an index of the initialiser's axis, and of
the scale and the zero point that go with it.
"""

from dataclasses import replace

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


def label_constant(node: Node, run: Labelling, number: int, axis: int) -> Labels:
    """Labels for input `number`, a parameter that brings channels of its own along `axis`."""
    shape = node.input_shape(number)
    assert shape is not None  # whoever asks has looked at it
    made = run.fresh_axis(shape, axis)
    use(node, run, number, axis, run.along(made, axis), "rides")
    return made


def pass_parameters_on(node: Node, run: Labelling) -> None:
    """What an elementwise operator makes of parameters, and of activations that hold one number along their axes, is
    cut where the parameters are."""
    whole, shapes = node.output_shape(), [node.input_shape(number) for number in range(len(node.inputs))]
    found = [parameter(node, run, number) for number in range(len(node.inputs))]
    if whole is None or any(shape is None for shape in shapes) or all(entry is None for entry in found):
        return
    axes: list[tuple[Home, ...] | str] = []
    for axis in range(len(whole)):
        homes: tuple[Home, ...] | str = ()
        for shape, fixed in zip(shapes, found, strict=True):
            own = axis - len(whole) + len(shape or ())
            if shape is None or own < 0 or (shape[own] == 1 < whole[axis]):
                continue
            here = fixed[own] if fixed else "is computed from an activation"
            homes = here if isinstance(here, str) else homes if isinstance(homes, str) else (*homes, *here)
        axes.append(homes)
    # Only a product is zero where one of its factors is: of others, and of quotients, nobody zeroes a parameter.
    run.parameters[node.outputs[0]] = tuple(
        homes if node.op == "Mul" or isinstance(homes, str) else tuple(replace(home, rides=True) for home in homes)
        for homes in axes
    )
