"""ExecuTorch: ONNX -> the graph as a module -> torch.export -> XNNPACK -> a program, zipped with its tensors' names."""

import json
import logging
import os
import tempfile
import warnings
import zipfile
from pathlib import Path

import onnx

from targets.errors import BadInput, RuntimeMissing, TargetError
from targets.protocol import one_line
from targets.runtimes.executorch import MEANING, PROGRAM
from targets.runtimes.onnx_inputs import dims, specs_of


def lower(model: Path, output: Path) -> None:
    """`model`: ONNX without free dimensions. `output` appears whole or not at all. `TargetError` where an operator has
    no torch rule, or torch cannot export it."""
    try:
        import torch

        for name in ("torchao", "torch.utils._pytree"):  # who complain at import of what is not needed here
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower
    except ImportError as missing:
        raise RuntimeMissing(
            f"Programs for ExecuTorch are made here, and it cannot be imported ({missing}). Run: pip install executorch"
        ) from missing
    from pipeline.autograd import OnnxModule

    try:
        proto = onnx.load(model)
        inputs = specs_of(proto.graph)
    except Exception as failure:  # protobuf's own errors
        raise BadInput(f"{model.name} is not a model that ONNX can read: {one_line(str(failure))}") from failure
    examples = tuple(torch.zeros(spec["shape"], dtype=getattr(torch, spec["dtype"])) for spec in inputs)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch's own, on its way
            exported = torch.export.export(OnnxModule(proto).eval(), examples)
            program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    except Exception as failure:  # torch raises whatever tracing meets
        raise TargetError(f"{model.name} cannot be compiled for ExecuTorch: {one_line(str(failure))}") from failure
    outputs = [{"name": value.name, "shape": dims(value)} for value in proto.graph.output]
    handle, beside = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
    try:
        os.close(handle)
        with zipfile.ZipFile(beside, "w") as archive:
            archive.writestr(PROGRAM, program.buffer)
            archive.writestr(MEANING, json.dumps({"inputs": inputs, "outputs": outputs}))
        Path(beside).replace(output)
    finally:
        Path(beside).unlink(missing_ok=True)
