"""A small convolutional network on the handwritten digits of scikit-learn: seconds to train, real to recover."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from calibration.arrays import ArraySamples
from pipeline.training.config import Recovery, RecoveryConfig
from pipeline.training.recover import recover

TRAIN = 1200


class Network(nn.Module):
    """conv-norm-relu twice, then a classifier; `width` channels in between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Linear(4 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_digits(return_X_y=True)
    return (images.reshape(-1, 1, 8, 8) / 8 - 1).astype(np.float32), labels.astype(np.int64)


def samples(labelled: bool = True, count: int = TRAIN) -> ArraySamples:
    images, labels = digits()
    return ArraySamples({"image": images[:count]}, labels[:count] if labelled else None, {})


def accuracy(module: nn.Module) -> float:
    images, labels = digits()
    predicted = module(torch.from_numpy(images[TRAIN:])).argmax(dim=1).numpy()
    return float(100 * (predicted == labels[TRAIN:]).mean())


@cache
def _teacher_weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    network = Network(16)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    images, labels = digits()
    for _ in range(6):
        for indices in torch.from_numpy(np.random.default_rng(0).permutation(TRAIN)).split(100):
            optimiser.zero_grad()
            x, y = torch.from_numpy(images)[indices], torch.from_numpy(labels)[indices]
            nn.functional.cross_entropy(network(x), y).backward()
            optimiser.step()
    return network.state_dict()


def teacher() -> Network:
    network = Network(16)
    network.load_state_dict(_teacher_weights())
    return network.eval()


def student() -> Network:
    """The teacher with half of its second layer's channels."""
    whole, half = teacher().state_dict(), Network(8)
    cut = ("features.4.", "features.5.")
    rows = {name: value[:8] if name.startswith(cut) and value.ndim else value for name, value in whole.items()}
    rows["classifier.weight"] = whole["classifier.weight"][:, :32]
    half.load_state_dict(rows)
    return half.eval()


def config(**changes: Any) -> RecoveryConfig:
    settings: dict[str, Any] = {"epochs": 4, "learning_rate": 0.05, "batch_size": 100, "bf16": False, "seed": 3}
    return RecoveryConfig(**(settings | changes))


def run(network: nn.Module, checkpoint: Path, **changes: Any) -> Recovery:
    """A recovery with teacher, labels and validation, unless `changes` say otherwise."""
    arguments: dict[str, Any] = {"teacher": teacher(), "validation": accuracy, "config": config()}
    data = changes.pop("samples", None) or samples()
    return recover(network, data, checkpoint=checkpoint, **(arguments | changes))
