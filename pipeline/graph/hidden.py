"""Where a masked original gives no number and the cut network gives one: whose fault it is.

A removed channel that is infinite or no number is not hidden by weights of zero: the masked original's outputs are no
number then, and the cut network's, which does not compute the channel, are.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from pipeline.graph.execute import Runner
from pipeline.graph.feeds import Feeds
from pipeline.graph.model import Model


def hides_numbers(outputs: Mapping[str, NDArray[np.generic]], theirs: Mapping[str, NDArray[np.generic]]) -> bool:
    """Whether the masked original has no number somewhere where the cut network has one."""
    return any(
        values.shape == outputs[name].shape and bool((np.isnan(values) & ~np.isnan(outputs[name])).any())
        for name, values in theirs.items()
        if np.issubdtype(values.dtype, np.floating)
    )


def hiding_tensor(cut: Model, masked: Model, feeds: Feeds) -> str | None:
    """The first tensor whose lost channels are infinite or no number; None where numbers appear in one that lost none,
    which nothing excuses."""
    ours, theirs = (_inner(model.proto, feeds) for model in (cut, masked))
    for name, values in theirs.items():
        here = ours.get(name)
        if here is None or np.isfinite(values).all():
            continue
        if here.shape != values.shape:
            return name
        if np.any(np.isfinite(here) & ~np.isfinite(values)):
            return None
    return None


def _inner(proto: onnx.ModelProto, feeds: Feeds) -> dict[str, NDArray[np.generic]]:
    """Every floating tensor by name, in the order of execution."""
    told = onnx.ModelProto()
    told.CopyFrom(proto)
    names = [name for node in proto.graph.node for name in node.output if name]
    del told.graph.output[:]
    told.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    values = Runner(told)(feeds)
    return {
        name: values[name]
        for name in names
        if isinstance(values[name], np.ndarray) and np.issubdtype(values[name].dtype, np.floating)
    }
