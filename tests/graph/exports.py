"""The torch exporters, each in the forms users have: batch-norm folded or kept, batch fixed or free."""

import contextlib
import io
import warnings
from collections.abc import Callable, Mapping
from functools import cache

import onnx
import torch
from torch import nn

from tests.graph import zoo


def dynamo_folded(network: nn.Module, free: bool) -> bytes:
    return _dynamo(network, free, optimize=True)


def dynamo_kept(network: nn.Module, free: bool) -> bytes:
    return _dynamo(network, free, optimize=False)


def legacy_kept(network: nn.Module, free: bool) -> bytes:
    return _legacy(network, free, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)


def legacy_folded(network: nn.Module, free: bool) -> bytes:
    return _legacy(network, free)


EXPORTERS: Mapping[str, Callable[[nn.Module, bool], bytes]] = {
    "dynamo_folded": dynamo_folded,
    "dynamo_kept": dynamo_kept,
    "legacy_folded": legacy_folded,
    "legacy_kept": legacy_kept,
}


@cache
def exported(family: str, exporter: str, *, free: bool) -> onnx.ModelProto:
    """The family's network as this exporter writes it; once per test session."""
    network = zoo.build(family)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the exporters' own deprecations are not ours to fix
        return onnx.load_from_string(EXPORTERS[exporter](network, free))


def _dynamo(network: nn.Module, free: bool, *, optimize: bool) -> bytes:
    dynamic = ({0: torch.export.Dim("batch")},) if free else None
    program = torch.onnx.export(
        network, zoo.example(2 if free else 1), dynamo=True, optimize=optimize, dynamic_shapes=dynamic, verbose=False
    )
    assert program is not None
    return program.model_proto.SerializeToString()


def _legacy(network: nn.Module, free: bool, **options: object) -> bytes:
    target = io.BytesIO()
    names = {"input_names": ["input"], "output_names": ["output"]}
    axes = {"dynamic_axes": {"input": {0: "batch"}, "output": {0: "batch"}}} if free else {}
    torch.onnx.export(network, zoo.example(), target, dynamo=False, **names, **axes, **options)  # type: ignore[arg-type]
    return target.getvalue()
