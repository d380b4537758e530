"""Recovery of the cut network: batch-norm statistics estimated again, then training, then back into the graph."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch import Tensor, nn

from calibration.accuracy import evaluate
from calibration.batches import Samples
from calibration.batchnorm import reestimate
from pipeline.autograd.module import OnnxModule
from pipeline.graph.model import Model, free_batch
from pipeline.stages.holdout import split_off
from pipeline.training.config import RecoveryConfig
from pipeline.training.recover import recover

Progress = Callable[[int, int, str], None]


def recover_model(
    cut: Model,
    original: Model,
    samples: Samples,
    config: RecoveryConfig,
    folder: Path,
    on_progress: Progress | None = None,
    around_teacher: Callable[[nn.Module], nn.Module] = lambda module: module,
) -> tuple[Model, dict[str, Any]]:
    """The trained network, and what the report says of it. `original`, with `around_teacher`, is the teacher.

    A part of `samples` is held out to choose the best epoch by; the validation set of the user is never looked at.
    """
    training, held_out = split_off(samples, config.seed)
    student, module = (OnnxModule(free_batch(m), one_by_one=samples.most == 1) for m in (cut, original))
    teacher = around_teacher(module)
    reestimate(student, training, seed=config.seed, on_progress=on_progress)

    def validation(module: Any) -> float:
        metric = "top1" if samples.labelled else "agreement"
        reference = None if samples.labelled else _runner(teacher)
        return evaluate(_runner(module), held_out, metric, reference).value

    # Top-1 speaks of classes; other outputs are compared by the training loss alone, and the last epoch is kept.
    classifies = all(len(shape) == 2 for shape in _output_shapes(original)[:1])
    done = recover(
        student,
        training,
        teacher=teacher,
        config=config,
        checkpoint=folder / "checkpoint.pt",
        validation=validation if classifies else None,
        on_progress=on_progress,
    )
    record = asdict(done)
    epochs = record.pop("history")
    return with_weights(cut, student.to_onnx()), {**record, "epochs": list(epochs), "held_out": len(held_out)}


def with_weights(model: Model, trained: onnx.ModelProto) -> Model:
    """`model` with the initialisers of `trained`, which has the same graph."""
    values = {tensor.name: tensor for tensor in trained.graph.initializer}
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(values[tensor.name])
    return Model(proto, model.bound, model.shapes)


def _runner(module: Any) -> Callable[[dict[str, np.ndarray]], list[np.ndarray]]:
    import torch

    def run(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        with torch.inference_mode():
            outputs = module(*(torch.from_numpy(np.ascontiguousarray(values)) for values in inputs.values()))
        tensors = outputs if isinstance(outputs, tuple) else (outputs,)
        return [tensor.float().numpy() if isinstance(tensor, Tensor) else tensor for tensor in tensors]

    return run


def _output_shapes(model: Model) -> list[tuple[int, ...]]:
    return [model.shapes.get(value.name, ()) for value in model.proto.graph.output]
