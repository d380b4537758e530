"""The eight forms a network reaches users in: exporter x batch-norm kept / folded x batch fixed / free."""

from dataclasses import dataclass

import onnx
from torch import nn

from tests.graph.exports import dynamo_program, legacy_file, quiet
from tests.zoo.networks.seeded import examples

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Variant:
    """`exporter`: "dynamo" (torch.export) or "legacy" (TorchScript)."""

    exporter: str
    kept: bool
    free: bool

    @property
    def name(self) -> str:
        return f"{self.exporter}-{'kept' if self.kept else 'folded'}-{'free' if self.free else 'fixed'}"


ALL = tuple(
    Variant(exporter, kept, free)
    for exporter in ("dynamo", "legacy")
    for kept in (True, False)
    for free in (True, False)
)
TWO = (Variant("dynamo", kept=False, free=True), Variant("legacy", kept=True, free=False))
VARIANTS = {variant.name: variant for variant in ALL}


def export(network: nn.Module, shapes: Shapes, variant: Variant) -> onnx.ModelProto:
    """The network as this exporter writes it; what the exporter raises passes through."""
    example = examples(shapes, 2 if variant.free and variant.exporter == "dynamo" else 1)
    if variant.exporter == "legacy":
        found = network(*example)
        outputs = len(found) if isinstance(found, tuple) else 1
        file = legacy_file(network, example, free=variant.free, kept=variant.kept, outputs=outputs)
        return onnx.load_from_string(file)
    program = dynamo_program(network, example, free=variant.free)
    if not variant.kept:
        with quiet():
            program.optimize()
    return onnx.load_from_string(program.model_proto.SerializeToString())
