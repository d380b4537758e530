"""The torch exporters, each in the forms users have: batch-norm folded or kept, batch fixed or free."""

import contextlib
import io
import tempfile
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from tests.graph import zoo

EXPORTERS = ("dynamo_folded", "dynamo_kept", "legacy_folded", "legacy_kept")


def exported(family: str, exporter: str, *, free: bool) -> onnx.ModelProto:
    """The family's network as this exporter writes it; exported once per test session."""
    files = _dynamo(family, free) if exporter.startswith("dynamo") else _legacy(family, free)
    return onnx.load_from_string(files[exporter])


def export_as(exporter: str, network: nn.Module, example: tuple[torch.Tensor, ...], **options: Any) -> onnx.ModelProto:
    """Any network, in eval mode, from the "legacy" or the "dynamo" exporter."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        target = Path(folder) / "model.onnx"
        torch.onnx.export(network, example, target, dynamo=exporter == "dynamo", verbose=False, **options)
        return onnx.load(target)


@cache
def _dynamo(family: str, free: bool) -> Mapping[str, bytes]:
    """One trace gives both: the program is optimised (batch-norm folded) only after it was written once."""
    program = dynamo_program(_network(family), zoo.example(2 if free else 1), free=free)
    kept = program.model_proto.SerializeToString()
    with quiet():
        program.optimize()
    return {"dynamo_kept": kept, "dynamo_folded": program.model_proto.SerializeToString()}


@cache
def _legacy(family: str, free: bool) -> Mapping[str, bytes]:
    network, example = _network(family), zoo.example()
    return {
        "legacy_folded": legacy_file(network, example, free=free, kept=False),
        "legacy_kept": legacy_file(network, example, free=free, kept=True),
    }


def dynamo_program(network: nn.Module, example: tuple[Tensor, ...], *, free: bool) -> torch.onnx.ONNXProgram:
    """The newer exporter's program, batch-norm kept; `free`: the first axis of every input is one free batch."""
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in example) if free else None
    with quiet():
        program = torch.onnx.export(network, example, dynamo=True, optimize=False, dynamic_shapes=shapes, verbose=False)
    assert program is not None
    return program


def legacy_file(network: nn.Module, example: tuple[Tensor, ...], *, free: bool, kept: bool, outputs: int = 1) -> bytes:
    """What the older exporter writes; `kept`: batch-norm stays a node of its own."""
    written = ["output", *(f"output{number}" for number in range(1, outputs))]
    read = ["input", *(f"input{number}" for number in range(1, len(example)))]
    preserve: dict[str, Any] = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    axes: dict[str, Any] = {"dynamic_axes": {name: {0: "batch"} for name in (*read, *written)}}
    with tempfile.TemporaryDirectory() as folder, quiet():
        target = Path(folder) / "model.onnx"
        torch.onnx.export(
            network, example, target, dynamo=False, input_names=read, output_names=written,
            **(axes if free else {}), **(preserve if kept else {}),
        )  # fmt: skip
        return target.read_bytes()


@cache
def _network(family: str) -> nn.Module:
    return zoo.build(family)


@contextlib.contextmanager
def quiet():
    """The exporters' own deprecations and progress are not ours to fix."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
