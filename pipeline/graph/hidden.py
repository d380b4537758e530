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
from targets.errors import BadInput, CutbackError, ProofFailed

REPORT = "Nothing was written. This is a defect of cutback: please report it with the model and the plan."
HIDDEN = (
    "With its removed channels zeroed the original gives outputs that are no number where the cut network gives one: "
    "for random inputs some channels of {tensor} are infinite or no number, and zero times that is no number. So the "
    "cut cannot be shown to be right. Nothing was written. Leave those channels as they are with --exclude."
)


def hides_numbers(outputs: Mapping[str, NDArray[np.generic]], theirs: Mapping[str, NDArray[np.generic]]) -> bool:
    """Whether the masked original has no number somewhere where the cut network has one."""
    return any(
        values.shape == outputs[name].shape and bool((np.isnan(values) & ~np.isnan(outputs[name])).any())
        for name, values in theirs.items()
        if np.issubdtype(values.dtype, np.floating)
    )


def why_hidden(cut: Model, masked: Model, feeds: Feeds) -> CutbackError:
    """The first tensor that has numbers in the cut network and not in the masked original: if it lost channels, it was
    those; otherwise nothing excuses the cut."""
    ours, theirs = (_inner(model.proto, feeds) for model in (cut, masked))
    for name, values in theirs.items():
        here = ours.get(name)
        if here is None or np.isfinite(values).all():
            continue
        if here.shape != values.shape:
            return BadInput(HIDDEN.format(tensor=name))
        if np.any(np.isfinite(here) & ~np.isfinite(values)):
            break
    return ProofFailed(f"The masked original's outputs are no number where the cut network's are. {REPORT}")


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
