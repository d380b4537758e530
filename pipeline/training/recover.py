"""Recovery: the cut network is trained at its own size until it does again what the original did."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from calibration.batches import Samples, split
from pipeline.training import checkpoint as checkpoints
from pipeline.training.config import Epoch, Progress, Recovery, RecoveryConfig
from pipeline.training.distillation import Loss, choose_loss
from pipeline.training.pace import Clock, choose_precision
from pipeline.training.schedule import Pace, Plan, fit, learning_rate
from pipeline.training.teacher import Teacher, in_format, outputs_of, tensors
from pipeline.training.trainer import Trainer, steps_per_epoch
from targets.errors import BadInput

__all__ = ["Epoch", "Recovery", "RecoveryConfig", "recover"]

Validation = Callable[[nn.Module], float]


@dataclass
class _State:
    """What a checkpoint holds beside student and optimiser."""

    plan: Plan
    seconds: float
    start_value: float | None
    best_value: float | None
    best_epoch: int
    best: dict[str, Tensor] | None
    history: list[Epoch] = field(default_factory=list)

    def stopped(self, patience: int | None) -> bool:
        """True after `patience` epochs none of which was better than every one before."""
        values = [epoch.accuracy for epoch in self.history if epoch.accuracy is not None]
        if patience is None or not values:
            return False
        return len(values) - 1 - values.index(max(values)) >= patience


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
    The best epoch has the largest value, of equal ones the latest; without validation it is the last epoch.

    After every epoch `checkpoint` holds the whole state. The same call continues from there after a kill, with the
    schedule that was chosen then and the same order of samples; a finished recovery comes back at once. A checkpoint of
    another run, a loss that is not finite, and samples or labels that do not fit are BadInput. `seconds` and the
    number of epochs within `config.minutes` come from `clock`. `on_progress` counts steps.
    """
    clocked = clock()
    modes = [(module, module.training) for module in (student, teacher) if module is not None]
    with _threads(config.threads), torch.random.fork_rng(devices=[]):
        try:
            if teacher is not None:
                teacher.eval()
                in_format(teacher, config.channels_last)
            return _recover(student, samples, teacher, config, checkpoint, validation, on_progress, clock, clocked)
        finally:
            for module, training in modes:
                in_format(module, channels_last=False)
                module.train(training)


def _recover(
    student: nn.Module,
    samples: Samples,
    teacher: nn.Module | None,
    config: RecoveryConfig,
    path: Path,
    validation: Validation | None,
    on_progress: Progress | None,
    clock: Clock,
    clocked: float,
) -> Recovery:
    steps_per_epoch(samples, config)  # refuses what is too small before anything runs
    loss = _loss(student, teacher, samples, config)
    settings = {key: value for key, value in asdict(config).items() if key != "threads"}
    settings |= {"loss": str(loss), "validated": validation is not None}
    identity = checkpoints.identity(student, settings, len(samples))
    saved = checkpoints.load(path, identity)
    if saved is None:
        state, original = _begin(student, samples, teacher, config, loss, path, validation, clock, clocked)
    else:
        state = _restored(saved)
        original = None if teacher is None else Teacher(teacher, state.plan.bf16, config.channels_last)
    trainer = Trainer(student, samples, config, loss, state.plan.bf16)
    if saved is None:
        _save(path, identity, student, trainer, state)
    else:
        student.load_state_dict(saved["student"])
        trainer.optimiser.load_state_dict(saved["optimiser"])
        unfinished = len(state.history) < state.plan.epochs and not state.stopped(config.patience)
        if original is not None and not config.augmentation and unfinished:
            original.remember(samples, config.batch_size)
    before = state.seconds
    while len(state.history) < state.plan.epochs and not state.stopped(config.patience):
        number = len(state.history) + 1
        begun = clock()
        mean_loss = _epoch(student, trainer, original, samples, config, state.plan, number, on_progress, path)
        value = None if validation is None else _validate(student, validation)
        rate = learning_rate(number * state.plan.steps - 1, state.plan.total, config.learning_rate, config.warm_up)
        state.history.append(Epoch(number, mean_loss, value, rate, clock() - begun))
        if value is not None and (state.best_value is None or value >= state.best_value):
            state.best_value, state.best_epoch, state.best = value, number, _copy(student)
        state.seconds = before + clock() - clocked
        _save(path, identity, student, trainer, state)
    if state.best is not None:
        student.load_state_dict(state.best)
    return Recovery(
        best_value=state.best_value,
        best_epoch=len(state.history) if validation is None else state.best_epoch,
        start_value=state.start_value,
        history=tuple(state.history),
        seconds=state.seconds,
        planned_epochs=state.plan.epochs,
        precision=state.plan.precision,
        loss=str(loss),
    )


def _begin(
    student: nn.Module,
    samples: Samples,
    teacher: nn.Module | None,
    config: RecoveryConfig,
    loss: Loss,
    path: Path,
    validation: Validation | None,
    clock: Clock,
    clocked: float,
) -> tuple[_State, Teacher | None]:
    """The student's value as it came, the precision, and a schedule that ends within the minutes."""
    begun = clock()
    start = None if validation is None else _validate(student, validation)
    overhead = clock() - begun
    step_seconds, bf16, precision = (
        0.0,
        config.bf16 is True,
        f"{'bfloat16' if config.bf16 is True else 'float32'}, as asked",
    )
    if config.bf16 == "auto" or config.minutes is not None:
        bf16, step_seconds, precision = choose_precision(student, teacher, samples, config, loss, clock)
    original = None if teacher is None else Teacher(teacher, bf16, config.channels_last)
    if original is not None and not config.augmentation:
        original.remember(samples, config.batch_size)
    steps = steps_per_epoch(samples, config)
    begun = clock()
    trial = path.with_name(path.name + ".trial")
    checkpoints.save(trial, {"student": student.state_dict(), "best": student.state_dict(), "momentum": _copy(student)})
    trial.unlink()
    pace = Pace(step_seconds, overhead + clock() - begun)
    left = None if config.minutes is None else 60 * config.minutes - (clock() - clocked)
    epochs, steps = fit(config.epochs, steps, left, pace)
    best = None if validation is None else _copy(student)
    return _State(Plan(epochs, steps, bf16, precision), clock() - clocked, start, start, 0, best), original


def _epoch(
    student: nn.Module,
    trainer: Trainer,
    original: Teacher | None,
    samples: Samples,
    config: RecoveryConfig,
    plan: Plan,
    number: int,
    on_progress: Progress | None,
    path: Path,
) -> float:
    """Trains one epoch, everything random seeded by its number; the mean loss of its steps."""
    torch.manual_seed(config.seed * 1_000_003 + number)
    generator = np.random.default_rng((config.seed, number))
    shuffled = generator.permutation(len(samples)).astype(np.int64)
    batches = split(shuffled, config.batch_size, drop_last=len(samples) >= config.batch_size)
    student.train()
    total = 0.0
    for index, indices in enumerate(islice(batches, plan.steps)):
        step = (number - 1) * plan.steps + index
        rate = learning_rate(step, plan.total, config.learning_rate, config.warm_up)
        inputs, labels = trainer.read(indices, generator)
        targets = None if original is None else original.outputs(inputs, indices)
        value = trainer.step(inputs, targets, labels, rate)
        if not np.isfinite(value):
            raise _diverged(value, step, number, config.learning_rate, path)
        total += value
        if on_progress is not None:
            on_progress(step + 1, plan.total, f"epoch {number}/{plan.epochs}, loss {value:.4f}")
    return total / plan.steps


def _loss(student: nn.Module, teacher: nn.Module | None, samples: Samples, config: RecoveryConfig) -> Loss:
    """The parts that can be trained on, found by running a few samples through both networks."""
    batch = samples.read(np.arange(2, dtype=np.int64))
    inputs = tensors(batch.inputs, config.channels_last)
    if config.augmentation and [tensor.ndim for tensor in inputs] != [4]:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
        raise BadInput(
            f"Recovery: augmentation needs one input of images; inputs are {shapes}. Leave augmentation out."
        )
    student.eval()
    with torch.no_grad():
        outputs = outputs_of(student(*inputs))
        theirs = None if teacher is None else outputs_of(teacher(*inputs))
    ours = [tuple(output.shape) for output in outputs]
    if theirs is not None and ours != [tuple(output.shape) for output in theirs]:
        shapes = [tuple(output.shape) for output in theirs]
        raise BadInput(
            f"Recovery: the student gives {ours} for two samples, the teacher {shapes}. Give the uncut network."
        )
    return choose_loss(
        outputs[0],
        teacher=teacher is not None,
        labels=batch.labels is not None and batch.labels.ndim == 1,
        distillation_weight=config.distillation_weight,
        label_weight=config.label_weight,
        temperature=config.temperature,
    )


def _validate(student: nn.Module, validation: Validation) -> float:
    student.eval()
    with torch.no_grad():
        value = float(validation(student))
    if np.isnan(value):
        raise BadInput("Recovery: the validation gives NaN. Check the network's outputs and the metric.")
    return value


def _diverged(value: float, step: int, epoch: int, rate: float, path: Path) -> BadInput:
    if step == 0:
        return BadInput(
            f"Recovery: the loss is {value} before any update. Check the cut network's weights and the samples."
        )
    return BadInput(
        f"Recovery: the loss is {value} in epoch {epoch}, training diverged with learning rate {rate:g}. "
        f"Give a smaller one, such as {rate / 10:g}, and delete the checkpoint: rm {path}"
    )


def _save(path: Path, identity: Mapping[str, Any], student: nn.Module, trainer: Trainer, state: _State) -> None:
    checkpoints.save(
        path,
        {
            "identity": dict(identity),
            "student": student.state_dict(),
            "optimiser": trainer.optimiser.state_dict(),
            "plan": asdict(state.plan),
            "history": [asdict(epoch) for epoch in state.history],
            **{name: getattr(state, name) for name in ("seconds", "start_value", "best_value", "best_epoch", "best")},
        },
    )


def _restored(saved: Mapping[str, Any]) -> _State:
    return _State(
        plan=Plan(**saved["plan"]),
        history=[Epoch(**epoch) for epoch in saved["history"]],
        **{name: saved[name] for name in ("seconds", "start_value", "best_value", "best_epoch", "best")},
    )


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
