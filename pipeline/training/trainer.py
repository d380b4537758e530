"""One training step: read, change at random, run, compare with the original and the labels, update."""

from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from calibration.batches import Samples
from pipeline.training.augmentation import augment
from pipeline.training.config import RecoveryConfig
from pipeline.training.distillation import Loss, loss_value
from pipeline.training.teacher import autocast, in_format, outputs_of, tensors
from targets.errors import BadInput


@final
class Trainer:
    """A student in train mode and its optimiser. Owns neither: the student is trained in place."""

    def __init__(self, student: nn.Module, samples: Samples, config: RecoveryConfig, loss: Loss, bf16: bool) -> None:
        in_format(student, config.channels_last)
        self.optimiser = optimiser(student, config)
        self._student = student
        self._samples = samples
        self._config = config
        self._loss = loss
        self._bf16 = bf16

    def read(self, indices: NDArray[np.int64], generator: np.random.Generator) -> tuple[list[Tensor], Tensor | None]:
        """Inputs, augmented, and labels of the samples at `indices`."""
        batch = self._samples.read(indices)
        inputs = batch.inputs
        if self._config.augmentation:
            names, layout = self._config.augmentation, self._config.layout
            inputs = {name: augment(images, names, layout, generator) for name, images in inputs.items()}
        labels = None if batch.labels is None else torch.from_numpy(batch.labels)
        return tensors(inputs, self._config.channels_last), labels

    def step(
        self, inputs: Sequence[Tensor], teacher: Sequence[Tensor] | None, labels: Tensor | None, rate: float
    ) -> float:
        """Updates the student once with this learning rate; the loss before the update, which may be NaN."""
        with autocast(self._bf16):
            outputs = outputs_of(self._student(*inputs))
        if self._loss.labels > 0 and labels is not None and int(labels.max()) >= outputs[0].shape[1]:
            raise BadInput(
                f"Recovery: label {int(labels.max())} is out of range, the network has {outputs[0].shape[1]} classes "
                f"(0 to {outputs[0].shape[1] - 1}). Number the labels as the network does."
            )
        loss = loss_value(self._loss, outputs, teacher, labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        return float(loss.detach())


def optimiser(student: nn.Module, config: RecoveryConfig) -> torch.optim.SGD:
    """SGD with Nesterov momentum; biases and norms are not decayed."""
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    if not trained:
        raise BadInput("Recovery: the network has no parameters that can be trained. Leave the recovery out.")
    groups = [
        {"params": [value for value in trained if value.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [value for value in trained if value.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
    )


def steps_per_epoch(samples: Samples, config: RecoveryConfig) -> int:
    """Whole batches only, or one batch of everything where the set is smaller: norms need more than a few examples."""
    if len(samples) < 2:
        raise BadInput(f"Recovery: {len(samples)} samples to train on. Give at least 2, better some thousands.")
    return max(1, len(samples) // config.batch_size)
