"""Before the first epoch: what can be trained on, in which precision, and for how many epochs."""

import numpy as np
import torch

from pipeline.training import checkpoint
from pipeline.training.distillation import Loss, choose_loss
from pipeline.training.job import Job, State, weights
from pipeline.training.pace import choose_precision
from pipeline.training.schedule import Pace, Plan, fit
from pipeline.training.teacher import Teacher, outputs_of, tensors
from pipeline.training.trainer import steps_per_epoch
from targets.errors import BadInput


def find_loss(job: Job) -> Loss:
    """The parts of the loss, found by running two samples through both networks."""
    config = job.config
    batch = job.samples.read(np.arange(2, dtype=np.int64))
    inputs = tensors(batch.inputs, config.channels_last)
    if config.augmentation and [tensor.ndim for tensor in inputs] != [4]:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
        raise BadInput(
            f"Recovery: augmentation needs one input of images; inputs are {shapes}. Leave augmentation out."
        )
    job.student.eval()
    with torch.no_grad():
        outputs = outputs_of(job.student(*inputs))
        theirs = None if job.teacher is None else outputs_of(job.teacher(*inputs))
    shapes_ours = [tuple(output.shape) for output in outputs]
    shapes_theirs = shapes_ours if theirs is None else [tuple(output.shape) for output in theirs]
    if shapes_ours != shapes_theirs:
        raise BadInput(
            f"Recovery: the student gives {shapes_ours} for two samples, the teacher {shapes_theirs}. "
            f"Give the uncut network as teacher."
        )
    return choose_loss(
        outputs[0],
        teacher=job.teacher is not None,
        labels=batch.labels is not None and batch.labels.ndim == 1,
        distillation_weight=config.distillation_weight,
        label_weight=config.label_weight,
        temperature=config.temperature,
    )


def begin(job: Job, loss: Loss) -> tuple[State, Teacher | None]:
    """The student's value as it came, and a schedule that ends within the minutes, all that is done here included."""
    config = job.config
    begun = job.clock()
    value = job.validate()
    overhead = job.clock() - begun
    bf16 = config.bf16 is True
    precision, step_seconds = f"{'bfloat16' if bf16 else 'float32'}, as asked", 0.0
    if config.bf16 == "auto" or config.minutes is not None:
        bf16, step_seconds, precision = choose_precision(job.student, job.teacher, job.samples, config, loss, job.clock)
    original = open_teacher(job, bf16)
    overhead += _checkpoint_seconds(job)
    left = None if config.minutes is None else 60 * config.minutes - (job.clock() - job.begun)
    epochs, steps = fit(config.epochs, steps_per_epoch(job.samples, config), left, Pace(step_seconds, overhead))
    best = None if value is None else weights(job.student)
    return State(Plan(epochs, steps, bf16, precision), 0.0, value, value, 0, best), original


def open_teacher(job: Job, bf16: bool) -> Teacher | None:
    """The uncut network; its outputs are computed once for all where every epoch repeats the same inputs."""
    if job.teacher is None:
        return None
    original = Teacher(job.teacher, bf16, job.config.channels_last)
    if not job.config.augmentation:
        original.remember(job.samples, job.config.batch_size)
    return original


def _checkpoint_seconds(job: Job) -> float:
    """What a checkpoint costs, shown by writing one of the same size; a place that cannot be written shows here too."""
    begun = job.clock()
    trial = job.checkpoint.with_name(job.checkpoint.name + ".trial")
    state = weights(job.student)
    checkpoint.save(trial, {"student": job.student.state_dict(), "best": state, "momentum": weights(job.student)})
    trial.unlink()
    return job.clock() - begun
