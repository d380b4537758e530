"""What a step costs on this machine: decides bfloat16 or float32, and how many epochs fit into the minutes."""

import copy
import statistics
from collections.abc import Callable

import numpy as np
from torch import nn

from calibration.batches import Samples, order, split
from pipeline.training.config import RecoveryConfig
from pipeline.training.distillation import Loss
from pipeline.training.job import Clock
from pipeline.training.teacher import Teacher
from pipeline.training.trainer import Trainer

WARM_UP_STEPS = 1  # the first allocates memory and picks kernels
TIMED_STEPS = 8
LONGEST_SECONDS = 20.0  # for all of it: a network whose steps take seconds is judged by fewer of them
LARGEST_SHARE = 0.1  # of the minutes, likewise

Step = Callable[[int], float]


def choose_precision(
    student: nn.Module, teacher: nn.Module | None, samples: Samples, config: RecoveryConfig, loss: Loss, clock: Clock
) -> tuple[bool, float, str]:
    """(bf16, seconds of a step, why), measured on copies: the student comes out as it went in.

    Where both are tried their steps alternate, so that a machine busy with something else slows both. A step contains
    the teacher where it runs with every batch (with augmentation), and not where it ran before.
    """
    steps = {}
    wanted = (False, True) if config.bf16 == "auto" else (config.bf16,)
    refused = ""
    for bf16 in wanted:
        step = _stepper(student, teacher, samples, config, loss, clock, bf16)
        try:
            for number in range(WARM_UP_STEPS):
                step(number)
        except RuntimeError as error:  # an operator without a bfloat16 kernel; float32 was seen to work before it
            if not bf16 or config.bf16 != "auto":
                raise
            refused = " ".join(str(error).split())[:120]
        else:
            steps[bf16] = step
    seconds = _medians(steps, config, clock)
    if config.bf16 != "auto":
        return config.bf16, seconds[config.bf16], f"{_name(config.bf16)}, as asked"
    if refused:
        return False, seconds[False], f"float32; bfloat16 does not run this network ({refused})"
    chosen = seconds[True] < seconds[False]
    times = f"a step took {1e3 * seconds[False]:.1f} ms in float32, {1e3 * seconds[True]:.1f} ms in bfloat16"
    return chosen, seconds[chosen], f"{_name(chosen)}; {times}"


def _medians(steps: dict[bool, Step], config: RecoveryConfig, clock: Clock) -> dict[bool, float]:
    """Median seconds of a step, of up to TIMED_STEPS each and at least one."""
    limit = LONGEST_SECONDS if config.minutes is None else min(LONGEST_SECONDS, LARGEST_SHARE * 60 * config.minutes)
    begun = clock()
    seconds: dict[bool, list[float]] = {bf16: [] for bf16 in steps}
    for number in range(TIMED_STEPS):
        for bf16, step in steps.items():
            seconds[bf16].append(step(WARM_UP_STEPS + number))
        if clock() - begun > limit:
            break
    return {bf16: statistics.median(values) for bf16, values in seconds.items()}


def _stepper(
    student: nn.Module,
    teacher: nn.Module | None,
    samples: Samples,
    config: RecoveryConfig,
    loss: Loss,
    clock: Clock,
    bf16: bool,
) -> Step:
    """Trains a copy with learning rate 0 on the batch of that number; the seconds it took."""
    trainer = Trainer(copy.deepcopy(student).train(), samples, config, loss, bf16)
    original = None if teacher is None else Teacher(teacher, bf16, config.channels_last)
    generator = np.random.default_rng(config.seed)
    whole = len(samples) >= config.batch_size
    batches = list(split(order(len(samples), config.seed), config.batch_size, drop_last=whole))

    def step(number: int) -> float:
        begun = clock()
        inputs, labels = trainer.read(batches[number % len(batches)], generator)
        paused = clock()
        targets = None if original is None else original.run(inputs)
        excluded = 0.0 if config.augmentation else clock() - paused
        trainer.step(inputs, targets, labels, rate=0.0)
        return clock() - begun - excluded

    return step


def _name(bf16: bool) -> str:
    return "bfloat16" if bf16 else "float32"
