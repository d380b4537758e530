"""How good a network's outputs are: on labels, by a metric of the user's, or against the original network."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.batches import Samples
from calibration.entry_points import is_entry_point, load_entry_point
from targets.errors import BadInput

Run = Callable[[dict[str, NDArray[Any]]], Sequence[NDArray[Any]]]
Metric = Callable[[Sequence[NDArray[Any]], NDArray[np.int64] | None, Sequence[NDArray[Any]] | None], float]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Accuracy:
    """`value` is in percent, over `count` examples."""

    metric: str
    value: float
    count: int


def evaluate(
    run: Run,
    samples: Samples,
    metric: str = "top1",
    reference: Run | None = None,
    *,
    batch_size: int = 256,
    on_progress: Progress | None = None,
) -> Accuracy:
    """The metric over all samples, in order. `run` takes inputs by name and gives the network's outputs in their order.

    top1, top5: the first output, (batch, classes), against labels.
    agreement: where the first output's largest entry along axis 1 is the reference's; needs `reference`, no labels.
    `module:callable`: called with (outputs, labels or None) for each batch; returns one number for each example, or
    their sum, where 1 for every example is 100 percent.
    """
    score = _find_metric(metric, samples, reference)
    total = 0.0
    done = 0
    for batch in samples.batches(batch_size):
        size = len(next(iter(batch.inputs.values())))
        outputs = _checked(run(batch.inputs), size, done, "The network")
        original = None if reference is None else _checked(reference(batch.inputs), size, done, "The reference network")
        total += score(outputs, batch.labels, original)
        done += size
        if on_progress is not None:
            on_progress(done, len(samples), metric)
    if done == 0:
        raise BadInput(f"Metric {metric}: there are no samples. Give at least one.")
    return Accuracy(metric, 100.0 * total / done, done)


def _top(rank: int) -> Metric:
    name = f"top{rank}"

    def score(
        outputs: Sequence[NDArray[Any]], labels: NDArray[np.int64] | None, _: Sequence[NDArray[Any]] | None
    ) -> float:
        logits = _class_scores(outputs[0], name, rank + 1 if rank > 1 else 2)
        if labels is None or labels.ndim != 1:
            state = "none" if labels is None else f"shape {labels.shape}"
            raise BadInput(f"Metric {name}: needs one label for each example, and there are {state}. Use agreement.")
        classes = logits.shape[1]
        if int(labels.max()) >= classes:
            raise BadInput(
                f"Metric {name}: label {int(labels.max())} is out of range, the network has {classes} classes (0 to "
                f"{classes - 1}). Number the labels as the network does."
            )
        rows = np.arange(len(labels))
        own = logits[rows, labels][:, None]
        earlier = np.arange(classes)[None] < labels[:, None]  # of equal scores the first counts, as in argmax
        ahead = (logits > own) | ((logits == own) & earlier)
        return float((ahead.sum(axis=1) < rank).sum())

    return score


def _agreement(
    outputs: Sequence[NDArray[Any]], _: NDArray[np.int64] | None, reference: Sequence[NDArray[Any]] | None
) -> float:
    assert reference is not None  # refused before the first batch
    ours, theirs = outputs[0], reference[0]
    if ours.shape != theirs.shape:
        raise BadInput(
            f"Metric agreement: outputs of shape {ours.shape} beside {theirs.shape} of the reference. "
            f"Compare networks with equal outputs."
        )
    if ours.ndim < 2 or ours.shape[1] < 2:
        raise BadInput(
            f"Metric agreement: outputs of shape {ours.shape} have no classes along axis 1. "
            f"Give a metric as module:callable."
        )
    equal = ours.argmax(axis=1) == theirs.argmax(axis=1)
    return float(equal.reshape(len(equal), -1).mean(axis=1).sum())


METRICS: Mapping[str, Metric] = {"top1": _top(1), "top5": _top(5), "agreement": _agreement}


def _find_metric(name: str, samples: Samples, reference: Run | None) -> Metric:
    """The metric, with what can be refused before the first batch refused."""
    if name == "agreement" and reference is None:
        raise BadInput("Metric agreement: compares with the original network, and none was given. Give a reference.")
    if name in ("top1", "top5") and not samples.labelled:
        raise BadInput(f"Metric {name}: the samples have no labels. Store labels, or use agreement with the original.")
    if name in METRICS:
        return METRICS[name]
    if not is_entry_point(name):
        raise BadInput(f"Unknown metric {name!r}. Known: {', '.join(METRICS)}, or module:callable.")
    return _by_entry_point(name)


def _by_entry_point(name: str) -> Metric:
    call = load_entry_point(name, "Metric")

    def score(
        outputs: Sequence[NDArray[Any]], labels: NDArray[np.int64] | None, _: Sequence[NDArray[Any]] | None
    ) -> float:
        try:
            result = np.asarray(call(outputs, labels), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"Metric {name}: returned no number ({error}). Return a sum, or one for each example."
            ) from error
        if result.ndim > 0 and result.shape != (len(outputs[0]),):
            raise BadInput(
                f"Metric {name}: returned shape {result.shape} for a batch of {len(outputs[0])}. "
                f"Return one number for each example, or their sum."
            )
        if not np.isfinite(result).all():
            raise BadInput(f"Metric {name}: returned a value that is not finite. Return numbers.")
        return float(result.sum())

    return score


def _class_scores(output: NDArray[Any], name: str, least: int) -> NDArray[Any]:
    if output.ndim > 2 and all(size == 1 for size in output.shape[2:]):
        output = output.reshape(output.shape[:2])
    if output.ndim != 2 or output.shape[1] < least:
        raise BadInput(
            f"Metric {name}: needs outputs of shape (batch, classes) with at least {least} classes, the network gives "
            f"{output.shape}. Use another metric, such as module:callable."
        )
    return output


def _checked(outputs: Sequence[NDArray[Any]], size: int, first: int, who: str) -> Sequence[NDArray[Any]]:
    if not outputs or outputs[0].ndim == 0 or len(outputs[0]) != size:
        shape = outputs[0].shape if outputs else "nothing"
        raise BadInput(
            f"{who} gave {shape} for a batch of {size}. Use a network whose first output has the batch first."
        )
    for index, output in enumerate(outputs):
        if output.dtype.kind == "f" and np.isnan(output).any():
            raise BadInput(
                f"{who} gives NaN in output {index} on examples {first} to {first + size - 1}. "
                f"Check its weights and the scale of its inputs."
            )
    return outputs
