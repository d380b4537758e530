"""Running statistics of batch-norm, estimated again: after a cut they describe channels that are no longer there."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from calibration.accuracy import Progress
from calibration.batches import Samples
from targets.errors import BadInput


@runtime_checkable
class Normalised(Protocol):
    """A torch module with batch-norm, as much of it as is needed here.

    `statistics` gives the buffers themselves: (running mean, running variance) of each norm that keeps them. In train
    mode each call replaces them in place by (1 - momentum) * old + momentum * batch, the batch's variance unbiased
    (torch's convention, where ONNX writes the complement).
    """

    momentum: float
    training: bool

    def statistics(self) -> list[tuple[torch.Tensor, torch.Tensor]]: ...

    def train(self, mode: bool = True) -> Any: ...

    def __call__(self, *inputs: torch.Tensor) -> Any: ...


def reestimate(
    module: Normalised,
    samples: Samples,
    *,
    batch_size: int = 128,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> int:
    """Statistics become their average over the samples, each batch weighted by its size, in float32.

    Changes nothing else: parameters, mode and momentum are as before, and after an error the statistics are too.
    Batches are shuffled (sorted classes would bias the variance) and a short last one is left out unless it is the
    only one. Returns how many examples were used; 0 where no norm keeps statistics.
    """
    statistics = module.statistics()
    if not statistics:
        return 0
    before = [(mean.clone(), variance.clone()) for mean, variance in statistics]
    training, momentum = module.training, module.momentum
    try:
        seen = _average(module, statistics, samples, batch_size, seed, on_progress)
        for index, (mean, variance) in enumerate(statistics):
            if not (torch.isfinite(mean).all() and torch.isfinite(variance).all()):
                raise BadInput(
                    f"Batch-norm statistics: norm {index} of {len(statistics)} comes out not finite. "
                    f"Check the network's weights and the scale of its inputs."
                )
    except BaseException:
        with torch.no_grad():
            for buffers, saved in zip(statistics, before, strict=True):
                buffers[0].copy_(saved[0])
                buffers[1].copy_(saved[1])
        raise
    finally:
        module.momentum = momentum
        module.train(training)
    return seen


def _average(
    module: Normalised,
    statistics: list[tuple[torch.Tensor, torch.Tensor]],
    samples: Samples,
    batch_size: int,
    seed: int,
    on_progress: Progress | None,
) -> int:
    module.train()
    seen = 0
    with torch.no_grad():
        for mean, variance in statistics:
            mean.zero_()  # 0 * NaN is NaN: old values must not reach the first average
            variance.fill_(1.0)
        for batch in samples.batches(batch_size, seed=seed, drop_last=len(samples) >= batch_size):
            inputs = [torch.from_numpy(np.require(values, requirements=("C", "W"))) for values in batch.inputs.values()]
            seen += len(inputs[0])
            module.momentum = len(inputs[0]) / seen  # exact average: the first batch replaces, later ones weigh in
            module(*inputs)
            if on_progress is not None:
                on_progress(seen, len(samples), "batch-norm statistics")
    return seen
