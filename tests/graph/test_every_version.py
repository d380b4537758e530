"""Every version of every operator, between layers: attributes that became inputs are the same to a cut."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import onnx
import pytest

from pipeline.autograd.supported import supported
from tests.autograd.operator_cases import TABLES, feeds, graph_of
from tests.graph.test_node_cases import check

OLDEST_OPSET = 7
VERSIONS = {entry.op: entry.versions for entry in supported() if not entry.domain}
# One of each kind of change: attributes that became inputs, defaults that moved, outputs that went.
QUICK = (
    "BatchNormalization", "Clip", "Dropout", "Gemm", "GroupNormalization", "Pad", "ReduceMean",
    "ReduceSum", "Resize", "Slice", "Softmax", "Split", "Squeeze", "TopK", "Unsqueeze", "Upsample",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A call as a node test: a model, and inputs that suit it."""

    name: str
    model: onnx.ModelProto
    data_sets: list[tuple[list[Any], list[Any]]] = field(default_factory=list)


def versions_of(operator: str) -> Iterator[Case]:
    for version in VERSIONS[operator]:
        for number, made in enumerate(TABLES[""].get(operator, ())):
            if made.since <= version <= made.until:
                model = graph_of("", operator, made, max(version, OLDEST_OPSET))
                given = feeds("", operator, made)
                values = [given.get(value.name) for value in model.graph.input]
                yield Case(f"{operator} {version} ({number})", model, [(values, [])])


@pytest.mark.parametrize("operator", QUICK)
def test_operator_is_followed_or_locked_in_every_version(operator) -> None:
    for case in versions_of(operator):
        check(case)


@pytest.mark.slow
@pytest.mark.parametrize("operator", sorted(set(VERSIONS) - set(QUICK)))
def test_the_others_too(operator) -> None:
    for case in versions_of(operator):
        check(case)
