"""The loss that gradient criteria and the oracle look at, chosen by what the network gives and what the data holds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from calibration.batches import Batch
from targets.errors import BadInput

Outputs = Tensor | Sequence[Tensor]
CLASSIFIER_RANK = 2  # (batch, classes)


class Loss:
    """Loss per example, shape (batch,), of a network's outputs.

    First output (batch, classes): cross-entropy, with the labels where there are any. Without labels, with labels drawn
    (seeded) from the network's own softmax: divergence from its own output has no gradient, and always taking its
    best guess has next to none where it is sure. A Softmax or LogSoftmax at the graph's end is not applied twice.

    Any other network: mean squared output over all outputs ("feature energy"), labels or not: what a channel does to
    the size of the features.
    """

    def __init__(self, proto: onnx.ModelProto, seed: int) -> None:
        name = proto.graph.output[0].name
        self._last_op = next((node.op_type for node in proto.graph.node if name in node.output), "")
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, outputs: Outputs, targets: Tensor | None) -> Tensor:
        """Loss of each example, given what `targets` returned for this batch (for these outputs or better ones)."""
        every = _all(outputs)
        if targets is None:
            floats = [output.float() for output in every if output.is_floating_point()]
            return torch.stack([output.reshape(len(output), -1).square().mean(1) for output in floats]).sum(0)
        return F.nll_loss(self._log_probabilities(every[0].float()), targets, reduction="none")

    def targets(self, outputs: Outputs, labels: NDArray[Any] | None) -> Tensor | None:
        """Class numbers (batch,) to compare with; None where the network is no classifier."""
        first = _all(outputs)[0]
        if first.dim() != CLASSIFIER_RANK or first.shape[1] == 1:
            return None
        if labels is None:
            chances = self._log_probabilities(first.detach().float()).exp().cpu()
            return torch.multinomial(chances, 1, generator=self._generator).squeeze(1).to(first.device)
        if labels.shape != (len(first),) or labels.dtype.kind not in "iu":
            raise BadInput(f"Labels are {labels.dtype} {labels.shape}; the network wants {len(first)} class numbers.")
        if np.min(labels) < 0 or np.max(labels) >= first.shape[1]:
            raise BadInput(
                f"Labels reach from {labels.min()} to {labels.max()}, and the network has {first.shape[1]} classes."
            )
        return torch.from_numpy(labels.astype(np.int64)).to(first.device)

    def _log_probabilities(self, output: Tensor) -> Tensor:
        if self._last_op == "LogSoftmax":
            return output
        if self._last_op == "Softmax":
            return output.clamp_min(torch.finfo(output.dtype).tiny).log()
        return F.log_softmax(output, dim=1)


def as_tensors(batch: Batch) -> dict[str, Tensor]:
    """The batch's inputs by name, sharing memory where numpy lets it be written to."""
    return {
        name: torch.from_numpy(np.require(values, requirements=("C", "W"))) for name, values in batch.inputs.items()
    }


def _all(outputs: Outputs) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)
