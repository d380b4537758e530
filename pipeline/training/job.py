"""What a recovery was called with, and what it has reached: the one fixed, the other in the checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from calibration.batches import Samples
from pipeline.training import checkpoint
from pipeline.training.config import Epoch, Progress, RecoveryConfig
from pipeline.training.schedule import Plan
from targets.errors import BadInput

Validation = Callable[[nn.Module], float]
Clock = Callable[[], float]

PLAIN = ("seconds", "start_value", "best_value", "best_epoch", "best")  # fields of a state that are stored as they are


@dataclass(frozen=True)
class Job:
    """The arguments of `recover`; `begun` is the clock when it was called."""

    student: nn.Module
    samples: Samples
    teacher: nn.Module | None
    config: RecoveryConfig
    checkpoint: Path
    validation: Validation | None
    on_progress: Progress | None
    clock: Clock
    begun: float

    def validate(self) -> float | None:
        """The student's value in eval mode, None without a validation."""
        if self.validation is None:
            return None
        self.student.eval()
        with torch.no_grad():
            value = float(self.validation(self.student))
        if np.isnan(value):
            raise BadInput("Recovery: the validation gives NaN. Check the network's outputs and the metric.")
        return value


@dataclass
class State:
    """How far a run is. `best` is None without a validation: then the last epoch is the one to keep."""

    plan: Plan
    seconds: float  # up to the last checkpoint
    start_value: float | None
    best_value: float | None
    best_epoch: int
    best: dict[str, Tensor] | None
    history: list[Epoch] = field(default_factory=list)

    def finished(self, patience: int | None) -> bool:
        """All epochs done, or `patience` epochs none of which was better than every one before."""
        if len(self.history) >= self.plan.epochs:
            return True
        values = [epoch.accuracy for epoch in self.history if epoch.accuracy is not None]
        return patience is not None and bool(values) and len(values) - 1 - values.index(max(values)) >= patience

    def add(self, epoch: Epoch, student: nn.Module) -> None:
        """One more epoch; of equal values the later is the best."""
        self.history.append(epoch)
        value = epoch.accuracy
        if value is not None and (self.best_value is None or value >= self.best_value):
            self.best_value, self.best_epoch, self.best = value, epoch.epoch, weights(student)


def weights(module: nn.Module) -> dict[str, Tensor]:
    """A copy of everything the module is made of."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def save(job: Job, identity: Mapping[str, Any], optimiser: torch.optim.Optimizer, state: State) -> None:
    """The whole run, so that another process can go on."""
    checkpoint.save(
        job.checkpoint,
        {
            "identity": dict(identity),
            "student": job.student.state_dict(),
            "optimiser": optimiser.state_dict(),
            "plan": asdict(state.plan),
            "history": [asdict(epoch) for epoch in state.history],
            **{name: getattr(state, name) for name in PLAIN},
        },
    )


def restore(saved: Mapping[str, Any]) -> State:
    """The state that `save` wrote; student and optimiser are the caller's to load."""
    return State(
        plan=Plan(**saved["plan"]),
        history=[Epoch(**epoch) for epoch in saved["history"]],
        **{name: saved[name] for name in PLAIN},
    )
