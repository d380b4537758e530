"""A torch module, exported once at the door."""

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.entry_points import load_entry_point
from pipeline.graph.model import Model, load
from targets.errors import BadInput

if TYPE_CHECKING:
    import torch


def export(source: str, shapes: Mapping[str, Sequence[int]], example_inputs: str | None) -> Model:
    """`source` names a callable that gives an nn.Module (or the module itself). Inputs to trace with come from
    `example_inputs`, a callable that gives them, or are random of the shapes given for `input`.

    Batch-norm stays unfolded; the batch axis is free.
    """
    try:
        import torch
    except ImportError as error:
        raise BadInput("A torch source needs torch: pip install 'cutback[torch]', or export to ONNX.") from error
    module = _call(source, "Model")
    if not isinstance(module, torch.nn.Module):
        raise BadInput(f"{source} gives a {type(module).__name__}, not a torch module. Return an nn.Module.")
    inputs = _inputs(example_inputs, shapes)
    names = list(shapes) if shapes and not example_inputs else [f"input{n or ''}" for n in range(len(inputs))]
    with tempfile.TemporaryDirectory(prefix="cutback-export-") as folder:
        path = Path(folder, "model.onnx")
        try:
            with warnings.catch_warnings():
                # The exporter that keeps batch-norm apart is the older one, and says so at every call.
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    module.eval(),
                    inputs,
                    str(path),
                    dynamo=False,
                    training=torch.onnx.TrainingMode.PRESERVE,
                    do_constant_folding=False,
                    input_names=names,
                    output_names=None,
                    dynamic_axes={name: {0: "batch"} for name in names},
                    opset_version=17,
                )
        except Exception as error:  # the exporter raises whatever tracing meets
            raise BadInput(f"{source} cannot be exported: {' '.join(str(error).split())[:300]}") from error
        bound = {name: tuple(tensor.shape) for name, tensor in zip(names, inputs, strict=True)}
        return load(path, bound)


def _inputs(example_inputs: str | None, shapes: Mapping[str, Sequence[int]]) -> "tuple[torch.Tensor, ...]":
    import torch

    if example_inputs:
        given = _call(example_inputs, "Example inputs")
        return tuple(given) if isinstance(given, (tuple, list)) else (given,)
    if not shapes:
        raise BadInput("A torch source needs inputs to trace with. Give --shape input=1,3,224,224 or --example-inputs.")
    return tuple(torch.randn(*shape) for shape in shapes.values())


def _call(name: str, what: str) -> Any:
    found = load_entry_point(name, what)
    return found() if not hasattr(found, "forward") or isinstance(found, type) else found
