"""Accuracy of a graph on samples, before, between and after."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.accuracy import Accuracy, evaluate
from calibration.batches import Samples
from pipeline.graph.execute import session
from pipeline.graph.model import Model, free_batch
from targets.errors import BadInput

Run = Callable[[Mapping[str, NDArray[Any]]], Sequence[NDArray[Any]]]


def accuracy_of(
    model: Model,
    samples: Samples,
    metric: str,
    original: Model | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Accuracy:
    """The metric over all samples, run by ONNX Runtime on the host; `original` is what agreement compares with."""
    reference = runner(original) if metric == "agreement" and original is not None else None
    return evaluate(runner(model), samples, metric, reference, on_progress=on_progress)


def metric_for(samples: Samples, asked: str) -> str:
    """The metric asked for; agreement with the original where top-1 was meant and there are no labels."""
    return "agreement" if asked == "top1" and not samples.labelled else asked


def runner(model: Model) -> Run:
    """A function from inputs by name to the graph's outputs in order, for any batch size."""
    opened = session(free_batch(model), optimise=False, threads=os.cpu_count() or 1)
    names = [value.name for value in model.proto.graph.output]

    def run(inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        try:
            return [np.asarray(output) for output in opened.run(names, dict(inputs))]
        except Exception as error:  # the runtime's errors share no base class of their own
            size = len(next(iter(inputs.values())))
            raise BadInput(
                f"The network cannot run a batch of {size}: {' '.join(str(error).split())[:200]} "
                "Export it with a dynamic batch axis."
            ) from error

    return run
