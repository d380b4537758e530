"""Mean and variance of activations, channel by channel, over samples."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from calibration.batches import Samples, take
from pipeline.graph.editing import Names, add_initialiser, opset
from pipeline.graph.execute import session
from pipeline.graph.insert_batchnorm import Moments
from pipeline.graph.model import Model, free_batch
from targets.errors import BadInput

BATCH = 16
AXES_ARE_AN_INPUT = 13  # the operator set in which ReduceSum takes its axes as an input
Progress = Callable[[int, int, str], None]


def channel_moments(
    model: Model,
    tensors: Sequence[str],
    samples: Samples,
    *,
    count: int,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> tuple[dict[str, Moments], int]:
    """One pass over `count` of the samples (all, where there are fewer): the moments of each tensor along axis 1, and
    how many samples they are of.

    Sums are float64, made in the graph: no activation leaves it. BadInput where the network cannot run a batch, and
    where a tensor is not finite on one.
    """
    chosen = take(samples, count, seed)
    if len(chosen) == 0:
        raise BadInput("There are no samples to measure batch-norm statistics on. Give at least one.")
    proto, sums = _with_sums(model, tensors)
    opened = session(proto)
    totals = {tensor: np.zeros((2, model.shapes[tensor][1])) for tensor in tensors}
    done = 0
    for batch in chosen.batches(BATCH):
        size = len(next(iter(batch.inputs.values())))
        try:
            outputs = opened.run(sums, dict(batch.inputs))
        except Exception as error:  # the runtime's errors share no base class of their own
            raise BadInput(
                f"The network cannot run a batch of {size}: {' '.join(str(error).split())[:200]} "
                "Export it with a dynamic batch axis."
            ) from error
        for number, tensor in enumerate(tensors):
            new = np.stack(outputs[2 * number : 2 * number + 2])
            if not np.isfinite(new).all():
                raise BadInput(
                    f"Tensor {tensor!r} is not finite on samples {done} to {done + size - 1} of those that batch-norm "
                    "statistics are measured on. Check the data's scale and the weights."
                )
            totals[tensor] += new
        done += size
        if on_progress:
            on_progress(done, len(chosen), "measuring batch-norm statistics")
    return {tensor: _moments(totals[tensor], done * math.prod(model.shapes[tensor][2:])) for tensor in tensors}, done


def _moments(totals: NDArray[np.float64], positions: int) -> Moments:
    mean, square = totals / positions
    return Moments(mean, np.maximum(square - mean**2, 0.0))  # rounding may leave less than nothing of a constant


def _with_sums(model: Model, tensors: Sequence[str]) -> tuple[onnx.ModelProto, list[str]]:
    """The graph for any batch, and its outputs: for each tensor the sums of its values, then those of their squares."""
    proto = free_batch(model)
    names = Names(proto.graph)
    version = opset(proto)
    del proto.graph.output[:]
    for tensor in tensors:
        wide, square = names.fresh(f"{tensor}:wide"), names.fresh(f"{tensor}:square")
        proto.graph.node.append(helper.make_node("Cast", [tensor], [wide], wide, to=TensorProto.DOUBLE))
        proto.graph.node.append(helper.make_node("Mul", [wide, wide], [square], square))
        axes = [axis for axis in range(len(model.shapes[tensor])) if axis != 1]
        for source in (wide, square):
            output = names.fresh(f"{source}:sum")
            node = helper.make_node("ReduceSum", [source], [output], output, keepdims=0)
            if version >= AXES_ARE_AN_INPUT:
                node.input.append(add_initialiser(proto.graph, names, f"{output}:axes", np.asarray(axes, np.int64)))
            else:
                node.attribute.append(helper.make_attribute("axes", axes))
            proto.graph.node.append(node)
            proto.graph.output.append(helper.make_tensor_value_info(output, TensorProto.DOUBLE, None))
    return proto, [value.name for value in proto.graph.output]
