"""Quantised operators: scales and zero points are parameters, cut with the channels that they scale.

Weights come as integers behind DequantizeLinear (the QDQ form), as floats behind QuantizeLinear and DequantizeLinear
(trained with rounding), or straight into operators on integers (the QOperator form).
"""

from collections.abc import Callable
from dataclasses import replace

import onnx

from pipeline.graph.labels import ChannelRead, Home, Labelling, Parameter, labelled_axes
from pipeline.graph.rules import elementwise, joining, linear, normalization, spatial
from pipeline.graph.rules.node import Node, Outputs, refuse
from pipeline.graph.rules.parameter import parameter, use

Rule = Callable[[Node, Labelling], Outputs]

BLOCKED = "has one scale for a block of its indices: a cut would move the blocks"


def quantise(node: Node, run: Labelling) -> Outputs:
    """QuantizeLinear and DequantizeLinear: every element by itself, with the scale and zero point of its index."""
    fixed = parameter(node, run, 0)
    if fixed is not None:
        scaled = _with_scales(node, run, fixed)
        if scaled is None:
            return refuse(node, run, "has a scale that is computed from activations")
        run.parameters[node.outputs[0]] = scaled
        return (None,)
    labels = node.labels(run)
    if labels is None:
        return (None,)
    for number in (1, 2):
        shape = node.input_shape(number)
        if not node.has(number) or shape in ((), (1,)):
            continue
        if shape is None or len(shape) > 1 or parameter(node, run, number) is None:
            return refuse(node, run, "has scales in blocks, or computed from activations: not followed")
        axis = _axis(node, labels.ndim)
        if axis in labelled_axes(labels):
            use(node, run, number, 0, run.along(labels, axis), "rides")
    return (labels,)


def cast(node: Node, run: Labelling) -> Outputs:
    """A parameter stored in another type is still that parameter."""
    fixed = parameter(node, run, 0)
    if fixed is not None:
        run.parameters[node.outputs[0]] = fixed
    return elementwise.pass_on(node, run)


def dynamic(node: Node, run: Labelling) -> Outputs:
    """DynamicQuantizeLinear takes its one scale from the range of all elements, and reads all channels for that.

    Zero is in the range always, so a channel less is the same as a channel of zeros.
    """
    labels = node.labels(run)
    if labels is not None:
        if len(labelled_axes(labels)) > 1:
            return refuse(node, run, "takes a range over channels that lie on several axes")
        for axis in labelled_axes(labels):
            run.reads.append(ChannelRead(node.name, 0, node.inputs[0], axis, run.along(labels, axis)))
    return (labels, None, None)


def _with_scales(node: Node, run: Labelling, fixed: Parameter) -> Parameter | None:
    """The axes of a parameter, with those of the scale and zero point that it meets here."""
    axes = list(fixed)
    for number in (1, 2):
        if not node.has(number):
            continue
        scales, shape = parameter(node, run, number), node.input_shape(number)
        if scales is None or shape is None:
            return None
        if shape in ((), (1,)):
            continue
        here = _axis(node, len(axes))
        for own, homes in enumerate(scales):
            axis = here if len(shape) == 1 else own
            if len(shape) > 1 and axis == here:
                axes[axis] = BLOCKED
            elif isinstance(homes, str):
                axes[axis] = homes
            elif not isinstance(axes[axis], str):
                axes[axis] = (*axes[axis], *(Home(home.tensor, home.axis, rides=True) for home in homes))
    return tuple(axes)


def _axis(node: Node, ndim: int) -> int:
    return int(node.attributes.get("axis", 1)) % ndim


def _conv(node: Node, run: Labelling) -> Outputs:
    """QLinearConv: as Conv, with the weight's scale and zero point along its outputs."""
    return _with_weight(node, run, linear.conv, inputs=(0, 3, 8), single=(1, 2, 6, 7), scales=(4, 5), axis=0)


def _conv_integer(node: Node, run: Labelling) -> Outputs:
    return _with_weight(node, run, linear.conv, inputs=(0, 1), single=(2,), scales=(3,), axis=0)


def _matmul(node: Node, run: Labelling) -> Outputs:
    return _with_weight(node, run, linear.matmul, inputs=(0, 3), single=(1, 2, 6, 7), scales=(4, 5), axis=-1)


def _matmul_integer(node: Node, run: Labelling) -> Outputs:
    return _with_weight(node, run, linear.matmul, inputs=(0, 1), single=(2,), scales=(3,), axis=-1)


def _gemm(node: Node, run: Labelling) -> Outputs:
    axis = 0 if node.attributes.get("transB", 0) else 1
    return _with_weight(node, run, linear.gemm, inputs=(0, 3, 6), single=(1, 2, 7, 8), scales=(4, 5), axis=axis)


def _with_weight(
    node: Node, run: Labelling, rule: Rule, *, inputs: tuple[int, ...], single: tuple[int, ...],
    scales: tuple[int, ...], axis: int,
) -> Outputs:  # fmt: skip
    """`rule` of the operator on floats, which has the inputs numbered `inputs` here.

    Inputs `single` must be one number, as activations have; `scales` go along `axis` of the weight where they are more.
    """
    view = _as_floats(node, inputs)
    fixed = parameter(view, run, 1)
    if any(node.has(number) and node.input_shape(number) not in ((), (1,)) for number in single):
        return refuse(node, run, "has more than one scale for an activation: not followed")
    if fixed is not None:
        axes = list(fixed)
        for number in scales:
            if not node.has(number) or node.input_shape(number) in ((), (1,)):
                continue
            if not node.is_constant(number) or len(node.input_shape(number) or ()) != 1:
                return refuse(node, run, "has a scale for the weight that is computed, or lies on several axes")
            axes[axis] = (*axes[axis], Home(node.inputs[number], 0, rides=True))
        run.parameters[view.inputs[1]] = tuple(axes)
    return rule(view, run)


def _on_floats(rule: Rule, start: int = 0) -> Rule:
    """`rule` of the operator on floats: each input here is followed by its scale and zero point."""

    def on_integers(node: Node, run: Labelling) -> Outputs:
        if node.attributes.get("channels_last", 0):
            return refuse(node, run, "keeps channels last: not followed")
        return rule(_as_floats(node, _data_inputs(node, start)), run)

    return on_integers


def _data_inputs(node: Node, start: int) -> tuple[int, ...]:
    """Two inputs at the end are the result's own scale and zero point, unless those come first."""
    end = len(node.inputs) if start else max(1, len(node.inputs) - 2)
    return tuple(range(start, end, 3))


def _as_floats(node: Node, inputs: tuple[int, ...]) -> Node:
    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    del proto.input[:]
    proto.input.extend(node.inputs[number] for number in inputs if number < len(node.inputs))
    return replace(node, proto=proto)


RULES: dict[str, Rule] = {
    "QuantizeLinear": quantise,
    "DequantizeLinear": quantise,
    "DynamicQuantizeLinear": dynamic,
    "Cast": cast,
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
    "ConvInteger": _conv_integer,
    "MatMulInteger": _matmul_integer,
}
# ONNX Runtime's own.
MICROSOFT_RULES: dict[str, Rule] = {
    "QuantizeLinear": quantise,
    "DequantizeLinear": quantise,
    "QGemm": _gemm,
    "QLinearAdd": _on_floats(elementwise.unite),
    "QLinearMul": _on_floats(elementwise.unite),
    "QLinearLeakyRelu": _on_floats(elementwise.pass_on),
    "QLinearSigmoid": _on_floats(elementwise.pass_on),
    "QLinearSoftmax": _on_floats(normalization.softmax),
    "QLinearConcat": _on_floats(joining.concat, start=2),
    "QLinearAveragePool": _on_floats(spatial.spatial),
    "QLinearGlobalAveragePool": _on_floats(spatial.spatial),
}
