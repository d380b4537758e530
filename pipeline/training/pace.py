"""What a step costs on this machine: decides bfloat16 or float32, and how many epochs fit into the minutes."""

import copy
import statistics

import numpy as np
from torch import nn

from calibration.batches import Samples, order, split
from pipeline.training.config import RecoveryConfig
from pipeline.training.distillation import Loss
from pipeline.training.job import Clock
from pipeline.training.teacher import Teacher
from pipeline.training.trainer import Trainer

WARM_UP_STEPS = 2  # the first ones allocate memory and pick kernels
TIMED_STEPS = 8


def choose_precision(
    student: nn.Module, teacher: nn.Module | None, samples: Samples, config: RecoveryConfig, loss: Loss, clock: Clock
) -> tuple[bool, float, str]:
    """(bf16, seconds of a step, why), measured on copies: the student comes out as it went in.

    A step contains the teacher where it runs with every batch (with augmentation), and not where it ran before.
    """
    if config.bf16 != "auto":
        seconds = _step_seconds(student, teacher, samples, config, loss, clock, config.bf16)
        return config.bf16, seconds, f"{_name(config.bf16)}, as asked"
    plain = _step_seconds(student, teacher, samples, config, loss, clock, bf16=False)
    try:
        short = _step_seconds(student, teacher, samples, config, loss, clock, bf16=True)
    except RuntimeError as error:  # an operator without a bfloat16 kernel: float32 has just been seen to work
        return False, plain, f"float32; bfloat16 does not run this network ({' '.join(str(error).split())[:120]})"
    bf16 = short < plain
    why = f"{_name(bf16)}; a step took {1e3 * plain:.1f} ms in float32, {1e3 * short:.1f} ms in bfloat16"
    return bf16, min(plain, short), why


def _step_seconds(
    student: nn.Module,
    teacher: nn.Module | None,
    samples: Samples,
    config: RecoveryConfig,
    loss: Loss,
    clock: Clock,
    bf16: bool,
) -> float:
    """Median over some steps of a copy, with learning rate 0."""
    trained = copy.deepcopy(student).train()
    trainer = Trainer(trained, samples, config, loss, bf16)
    original = None if teacher is None else Teacher(teacher, bf16, config.channels_last)
    generator = np.random.default_rng(config.seed)
    batches = list(
        split(order(len(samples), config.seed), config.batch_size, drop_last=len(samples) >= config.batch_size)
    )
    seconds = []
    for number in range(WARM_UP_STEPS + TIMED_STEPS):
        indices = batches[number % len(batches)]
        begun = clock()
        inputs, labels = trainer.read(indices, generator)
        excluded = clock()
        targets = None if original is None else original.run(inputs)
        excluded = 0.0 if config.augmentation else clock() - excluded
        trainer.step(inputs, targets, labels, rate=0.0)
        seconds.append(clock() - begun - excluded)
    return statistics.median(seconds[WARM_UP_STEPS:])


def _name(bf16: bool) -> str:
    return "bfloat16" if bf16 else "float32"
