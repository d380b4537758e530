"""Attributes left to their default, written out where the tools around a graph stumble over their absence."""

import onnx
from onnx import helper

from pipeline.graph.editing import attribute, is_standard
from pipeline.graph.shapes import Shapes

ALL_BUT_CHANNELS = (0, 2, 3)


def default_axes_are_written(proto: onnx.ModelProto, bound: Shapes) -> None:
    """MeanVarianceNormalization: shape inference unfolds its definition, which lacks the axes when the node does."""
    for node in proto.graph.node:
        if is_standard(node, "MeanVarianceNormalization") and attribute(node, "axes") is None:
            node.attribute.append(helper.make_attribute("axes", ALL_BUT_CHANNELS))
