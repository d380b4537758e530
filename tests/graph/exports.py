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
from torch import nn

from tests.graph import zoo

EXPORTERS = ("dynamo_folded", "dynamo_kept", "legacy_folded", "legacy_kept")


def exported(family: str, exporter: str, *, free: bool) -> onnx.ModelProto:
    """The family's network as this exporter writes it; exported once per test session."""
    files = _dynamo(family, free) if exporter.startswith("dynamo") else _legacy(family, free)
    return onnx.load_from_string(files[exporter])


def export_as(exporter: str, network: nn.Module, example: tuple[torch.Tensor, ...], **options: Any) -> onnx.ModelProto:
    """Any network, in eval mode, from the "legacy" or the "dynamo" exporter."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
        target = Path(folder) / "model.onnx"
        torch.onnx.export(network, example, target, dynamo=exporter == "dynamo", verbose=False, **options)
        return onnx.load(target)


@cache
def _dynamo(family: str, free: bool) -> Mapping[str, bytes]:
    """One trace gives both: the program is optimised (batch-norm folded) only after it was written once."""
    shapes = ({0: torch.export.Dim("batch")},) if free else None
    with _quiet():
        program = torch.onnx.export(
            _network(family), zoo.example(2 if free else 1), dynamo=True, optimize=False, dynamic_shapes=shapes,
            verbose=False,
        )  # fmt: skip
        assert program is not None
        kept = program.model_proto.SerializeToString()
        program.optimize()
        return {"dynamo_kept": kept, "dynamo_folded": program.model_proto.SerializeToString()}


@cache
def _legacy(family: str, free: bool) -> Mapping[str, bytes]:
    preserve = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    axes: dict[str, Any] = {"dynamic_axes": {"input": {0: "batch"}, "output": {0: "batch"}}} if free else {}
    written = {}
    variants: dict[str, dict[str, Any]] = {"legacy_folded": {}, "legacy_kept": preserve}
    for exporter, options in variants.items():
        with tempfile.TemporaryDirectory() as folder, _quiet():
            target = Path(folder) / "model.onnx"
            torch.onnx.export(
                _network(family), zoo.example(), target, dynamo=False, input_names=["input"],
                output_names=["output"], **axes, **options,
            )  # fmt: skip
            written[exporter] = target.read_bytes()
    return written


@cache
def _network(family: str) -> nn.Module:
    return zoo.build(family)


@contextlib.contextmanager
def _quiet():
    """The exporters' own deprecations and progress are not ours to fix."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
