"""The table of criteria and the one function that runs them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from targets.errors import BadInput

if TYPE_CHECKING:  # the command line reads the table below, and needs none of these for it
    import onnx

    from calibration.batches import Batch
    from pipeline.graph.channels import ChannelGroup

Scores = dict[str, NDArray[np.float64]]
OnProgress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Request:
    """What a criterion is given. `batches` is read once, in order; empty for criteria that need no data."""

    proto: "onnx.ModelProto"
    groups: "tuple[ChannelGroup, ...]"
    batches: "Iterable[Batch]"
    seed: int
    on_progress: OnProgress


@dataclass(frozen=True)
class Criterion:
    """`function` is "module:name", imported when asked for (some need torch): Request -> Scores.

    The function must not change the model, and may leave out locked groups that it cannot score. Any other group that
    it cannot score is a BadInput.
    """

    function: str
    needs_data: bool
    says: str

    def run(self, request: Request) -> Scores:
        module, name = self.function.split(":")
        scores: Scores = getattr(import_module(module), name)(request)
        return scores


CRITERIA: dict[str, Criterion] = {
    "l1": Criterion("pipeline.importance.weights:l1", False, "sum of the absolute weights of a channel's filters"),
    "l2": Criterion("pipeline.importance.weights:l2", False, "l2 norm of a channel's filters"),
    "random": Criterion("pipeline.importance.noise:uniform", False, "seeded uniform noise, to compare with"),
    "bn-gamma": Criterion("pipeline.importance.batchnorm:gamma", False, "absolute scale of the batch-norms"),
    "taylor": Criterion("pipeline.importance.taylor:activation", True, "first-order loss change, by activations"),
    "taylor-gate": Criterion("pipeline.importance.taylor:gate", True, "squared gradient of a gate on the channel"),
}


def default_criterion(with_data: bool) -> str:
    """What channels are scored by when nobody chose."""
    return "taylor-gate" if with_data else "l2"


def score(
    criterion: str,
    proto: "onnx.ModelProto",
    groups: "Sequence[ChannelGroup]",
    *,
    batches: "Iterable[Batch] | None" = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Scores:
    """Group id -> float64 scores of shape (group.channels,); larger = more important. Not normalised.

    `batches` is read once; criteria without `needs_data` leave it alone. `on_progress` gets (batches done, batches in
    all or 0 where nobody knows, note). A locked group is left out where the criterion has nothing to score it by.
    BadInput: unknown criterion, missing data, a group that the criterion cannot score, scores that are not finite.
    """
    if criterion not in CRITERIA:
        raise BadInput(f"Criterion {criterion!r} is unknown. Known: {', '.join(CRITERIA)}.")
    chosen = CRITERIA[criterion]
    if chosen.needs_data and batches is None:
        free = ", ".join(name for name, entry in CRITERIA.items() if not entry.needs_data)
        raise BadInput(f"Criterion {criterion} needs data. Give --data, or take a criterion without: {free}.")
    request = Request(proto, tuple(groups), batches or (), seed, on_progress or _silent)
    scores = chosen.run(request)
    for name, values in scores.items():
        if not np.isfinite(values).all():
            raise BadInput(
                f"Criterion {criterion} gives scores that are not finite for group {name}. Check the weights."
            )
    return scores


def _silent(done: int, total: int, note: str) -> None:
    """Nobody watches."""
