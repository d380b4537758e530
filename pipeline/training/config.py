"""What a recovery is asked to do, and what it reports."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from calibration.preprocessing import LAYOUTS
from pipeline.training.augmentation import parse_augmentation
from targets.errors import BadInput

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class RecoveryConfig:
    """Settings of a recovery. SGD with Nesterov momentum; learning rate warms up, then falls to zero along a cosine.

    epochs, minutes: at least one is given; with both, as many epochs as fit into the minutes, at most `epochs`.
    distillation_weight, label_weight: only their ratio counts; a part without a teacher or labels is left out.
    weight_decay: on weights of two or more axes; biases and norms have none.
    temperature: both networks' logits are divided by it (Hinton 2015).
    warm_up: share of all steps.
    augmentation: names, `flip` and `crop:PIXELS`, applied to the images the network reads, in `layout`.
    patience: epochs without improvement of the validation value before stopping; None: never.
    bf16: autocast to bfloat16; "auto" times a few steps with and without and keeps the faster.
    threads: of torch; None leaves them as they are.
    """

    epochs: int | None = 30
    minutes: float | None = None
    learning_rate: float = 0.02
    batch_size: int = 128
    weight_decay: float = 1e-4
    momentum: float = 0.9
    temperature: float = 4.0
    distillation_weight: float = 1.0
    label_weight: float = 1.0
    warm_up: float = 0.1
    augmentation: tuple[str, ...] = ()
    patience: int | None = None
    bf16: bool | Literal["auto"] = "auto"
    channels_last: bool = True
    layout: str = "NCHW"
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.epochs is None and self.minutes is None:
            raise BadInput("Recovery: neither epochs nor minutes are given. Give at least one of them.")
        for name, value, fits, advice in (
            ("epochs", self.epochs, self.epochs is None or self.epochs >= 1, "at least 1"),
            ("minutes", self.minutes, self.minutes is None or _positive(self.minutes), "more than 0"),
            ("learning_rate", self.learning_rate, _positive(self.learning_rate), "more than 0, such as 0.02"),
            ("batch_size", self.batch_size, self.batch_size >= 2, "at least 2"),
            ("weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "0 or more"),
            ("momentum", self.momentum, 0 <= self.momentum < 1, "from 0 to below 1"),
            ("temperature", self.temperature, _positive(self.temperature), "more than 0, such as 4"),
            ("distillation_weight", self.distillation_weight, 0 <= self.distillation_weight < math.inf, "0 or more"),
            ("label_weight", self.label_weight, 0 <= self.label_weight < math.inf, "0 or more"),
            ("warm_up", self.warm_up, 0 <= self.warm_up < 1, "a share from 0 to below 1"),
            ("patience", self.patience, self.patience is None or self.patience >= 1, "at least 1"),
            ("bf16", self.bf16, self.bf16 in (True, False, "auto"), "true, false or auto"),
            ("layout", self.layout, self.layout in LAYOUTS, " or ".join(LAYOUTS)),
            ("seed", self.seed, self.seed >= 0, "0 or more"),
            ("threads", self.threads, self.threads is None or self.threads >= 1, "at least 1"),
        ):
            if not fits:
                raise BadInput(f"Recovery: {name} {value} cannot be used. Give {advice}.")
        parse_augmentation(self.augmentation)


@dataclass(frozen=True)
class Epoch:
    """`epoch` counts from 1. `accuracy`: the validation value, None without one. `learning_rate`: of its last step."""

    epoch: int
    loss: float
    accuracy: float | None
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Recovery:
    """What the student holds now. `best_epoch` 0 is the student as it came.

    best_value, start_value: of the validation, None without one.
    seconds: all of it, runs that were killed included up to their last checkpoint.
    precision: "bfloat16" or "float32", with the reason where it was chosen by timing.
    loss: the parts that were trained on, with their weights.
    planned_epochs: how many the schedule was made for; the history is shorter after an early stop.
    """

    best_value: float | None
    best_epoch: int
    start_value: float | None
    history: tuple[Epoch, ...]
    seconds: float
    planned_epochs: int
    precision: str
    loss: str


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0
