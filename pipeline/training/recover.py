"""Recovery: the cut network is trained at its own size until it does again what the original did."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn

from calibration.batches import Samples, split
from pipeline.training import checkpoint as checkpoints
from pipeline.training.config import Epoch, Progress, Recovery, RecoveryConfig
from pipeline.training.distillation import Loss
from pipeline.training.job import Clock, Job, State, Validation, restore, save
from pipeline.training.schedule import Plan, learning_rate, shortened
from pipeline.training.start import begin, find_loss, open_teacher
from pipeline.training.teacher import Teacher, in_format
from pipeline.training.trainer import Trainer, steps_per_epoch
from targets.errors import BadInput

__all__ = ["Epoch", "Recovery", "RecoveryConfig", "recover"]


def recover(
    student: nn.Module,
    samples: Samples,
    *,
    teacher: nn.Module | None,
    config: RecoveryConfig,
    checkpoint: Path,
    validation: Validation | None = None,
    on_progress: Progress | None = None,
    clock: Clock = time.perf_counter,
) -> Recovery:
    """Trains `student` in place on the teacher's outputs, on labels, or on both; it ends as its best epoch left it.

    Networks are called with the inputs' tensors in order and give a tensor or a tuple of tensors. `validation` gives a
    value that is better when larger; it is called with the student in eval mode, before the first epoch and after each.
    The best epoch has the largest value, of equal ones the latest (0: the student as it came); without validation it is
    the last epoch.

    After every epoch `checkpoint` holds the whole state. The same call (the student as it was at first) continues from
    there after a kill, with the schedule that was chosen then and the same order of samples; a finished recovery comes
    back at once. The schedule changes only where it would overrun `config.minutes`: it is shortened. A checkpoint of
    another run, a loss that is not finite, and samples or labels that do not fit are BadInput. Times, and the number of
    epochs within the minutes, come from `clock` (seconds). `on_progress` counts steps.
    """
    job = Job(student, samples, teacher, config, checkpoint, validation, on_progress, clock, clock())
    modes = [(module, module.training) for module in (student, teacher) if module is not None]
    with _threads(config.threads), torch.random.fork_rng(devices=[]):
        try:
            if teacher is not None:
                teacher.eval()
                in_format(teacher, config.channels_last)
            return _recover(job)
        finally:
            for module, training in modes:
                in_format(module, channels_last=False)
                module.train(training)


def _recover(job: Job) -> Recovery:
    steps_per_epoch(job.samples, job.config)  # refuses a set that is too small before anything runs
    loss = find_loss(job)
    settings = {key: value for key, value in asdict(job.config).items() if key != "threads"}
    settings |= {"loss": str(loss), "validated": job.validation is not None}
    identity = checkpoints.identity(job.student, settings, len(job.samples))
    state, original, trainer = _resume_or_begin(job, loss, identity)
    earlier = state.seconds
    while not state.finished(job.config.patience):
        begun = job.clock()
        number = len(state.history) + 1
        mean_loss = _epoch(job, trainer, original, state.plan, number)
        value = job.validate()
        rate = _rate(job, state.plan, number * state.plan.steps - 1)
        state.add(Epoch(number, mean_loss, value, rate, job.clock() - begun), job.student)
        state.seconds = earlier + job.clock() - job.begun
        left = None if job.config.minutes is None else 60 * job.config.minutes - state.seconds
        state.plan = shortened(state.plan, number, job.clock() - begun, left)
        save(job, identity, trainer.optimiser, state)
    if state.best is not None:
        job.student.load_state_dict(state.best)
    return Recovery(
        best_value=state.best_value,
        best_epoch=len(state.history) if job.validation is None else state.best_epoch,
        start_value=state.start_value,
        history=tuple(state.history),
        seconds=state.seconds,
        planned_epochs=state.plan.epochs,
        precision=state.plan.precision,
        loss=str(loss),
    )


def _resume_or_begin(job: Job, loss: Loss, identity: dict[str, object]) -> tuple[State, Teacher | None, Trainer]:
    saved = checkpoints.load(job.checkpoint, identity)
    if saved is None:
        state, original = begin(job, loss)
        trainer = Trainer(job.student, job.samples, job.config, loss, state.plan.bf16)
        save(job, identity, trainer.optimiser, state)  # a kill in the first epoch keeps the schedule too
        return state, original, trainer
    state = restore(saved)
    trainer = Trainer(job.student, job.samples, job.config, loss, state.plan.bf16)
    job.student.load_state_dict(saved["student"])
    trainer.optimiser.load_state_dict(saved["optimiser"])
    finished = state.finished(job.config.patience)
    return state, None if finished else open_teacher(job, state.plan.bf16), trainer


def _epoch(job: Job, trainer: Trainer, original: Teacher | None, plan: Plan, number: int) -> float:
    """Trains one epoch, everything random seeded by its number; the mean loss of its steps."""
    config, count = job.config, len(job.samples)
    torch.manual_seed(config.seed * 1_000_003 + number)
    generator = np.random.default_rng((config.seed, number))
    shuffled = generator.permutation(count).astype(np.int64)
    batches = split(shuffled, config.batch_size, drop_last=count >= config.batch_size)
    job.student.train()
    total = 0.0
    for index, indices in enumerate(islice(batches, plan.steps)):
        step = (number - 1) * plan.steps + index
        inputs, labels = trainer.read(indices, generator)
        targets = None if original is None else original.outputs(inputs, indices)
        value = trainer.step(inputs, targets, labels, _rate(job, plan, step))
        if not np.isfinite(value):
            raise _diverged(job, value, step, number)
        total += value
        if job.on_progress is not None:
            job.on_progress(step + 1, plan.total, f"epoch {number}/{plan.epochs}, loss {value:.4f}")
    return total / plan.steps


def _rate(job: Job, plan: Plan, step: int) -> float:
    return learning_rate(step, plan.total, job.config.learning_rate, job.config.warm_up)


def _diverged(job: Job, value: float, step: int, epoch: int) -> BadInput:
    if step == 0:
        return BadInput(
            f"Recovery: the loss is {value} before any update. Check the cut network's weights and the samples."
        )
    rate = job.config.learning_rate
    return BadInput(
        f"Recovery: the loss is {value} in epoch {epoch}, training diverged with learning rate {rate:g}. "
        f"Give a smaller one, such as {rate / 10:g}, and delete the checkpoint: rm {job.checkpoint}"
    )


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
