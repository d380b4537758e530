"""The loss of a recovery: likeness to the uncut network, and labels where there are any."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from targets.errors import BadInput


@dataclass(frozen=True)
class Loss:
    """Weights of the two parts, adding up to 1, and the temperature of the distillation."""

    distillation: float
    labels: float
    temperature: float
    logits: bool

    def __str__(self) -> str:
        kind = f"KL at temperature {self.temperature:g}" if self.logits else "squared error to the original"
        parts = ((self.distillation, kind), (self.labels, "cross-entropy with labels"))
        return " + ".join(f"{weight:g} {name}" for weight, name in parts if weight > 0)


def choose_loss(
    output: Tensor, *, teacher: bool, labels: bool, distillation_weight: float, label_weight: float, temperature: float
) -> Loss:
    """The parts that there is a teacher or labels for; labels need a first output of shape (batch, classes)."""
    logits = output.ndim == 2 and output.shape[1] > 1
    distillation = distillation_weight if teacher else 0.0
    supervised = label_weight if labels and logits else 0.0
    total = distillation + supervised
    if total == 0:
        raise BadInput(
            f"Recovery: nothing to train on (teacher: {'yes' if teacher else 'no'}, usable labels: "
            f"{'yes' if labels and logits else 'no'}, weights {distillation_weight:g} and {label_weight:g}). "
            f"Give a teacher, or labels for outputs of shape (batch, classes), with a weight above 0."
        )
    return Loss(distillation / total, supervised / total, temperature, logits)


def loss_value(
    loss: Loss, outputs: Sequence[Tensor], teacher: Sequence[Tensor] | None, labels: Tensor | None
) -> Tensor:
    """A scalar in float32, averaged over the batch; every output is distilled, the first one meets the labels."""
    total = torch.zeros(())
    if loss.distillation > 0 and teacher is not None:
        for ours, theirs in zip(outputs, teacher, strict=True):
            if ours.is_floating_point():
                total = total + loss.distillation * distil(ours, theirs, loss.temperature)
    if loss.labels > 0 and labels is not None:
        total = total + loss.labels * F.cross_entropy(outputs[0].float(), labels)
    return total


def distil(ours: Tensor, theirs: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(theirs / T) || softmax(ours / T)) for logits (batch, classes), averaged over the batch.

    T^2 keeps the gradient's size when the temperature changes (Hinton, Vinyals, Dean 2015, section 2). Outputs of any
    other shape: the mean squared error.
    """
    if ours.ndim != 2 or ours.shape[1] < 2:
        return F.mse_loss(ours.float(), theirs.float())
    log_ours = F.log_softmax(ours.float() / temperature, dim=1)
    log_theirs = F.log_softmax(theirs.float() / temperature, dim=1)
    return F.kl_div(log_ours, log_theirs, reduction="batchmean", log_target=True) * temperature**2
