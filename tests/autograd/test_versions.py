"""Every version of every operator's schema, against ONNX Runtime, unoptimised; and what the runtime lacks."""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from pipeline.autograd import OnnxModule, supported
from pipeline.autograd.dtypes import to_numpy, to_torch
from pipeline.autograd.ops import DOMAINS
from pipeline.autograd.versions import OLDEST_OPSET
from tests.autograd.graphs import Array, by_runtime
from tests.autograd.operator_cases import TABLES, Call, feeds, graph_of

RUNTIME_OPSET = 26  # the newest that ONNX Runtime 1.31 runs; newer versions meet ONNX's own reference evaluator
# Version 22 of these adds bfloat16 and nothing else, and ONNX Runtime lacks it: what it computes at opset 21 must hold.
BY_THE_VERSION_BEFORE: Mapping[str, int] = {"GlobalLpPool": 22, "MaxRoiPool": 22, "RoiAlign": 22}
# Operators that take or give sequences, or hold graphs: their cases are whole graphs (test_bodies.py).
IN_GRAPHS = frozenset(
    {
        "ConcatFromSequence", "If", "Loop", "Scan", "SequenceAt", "SequenceConstruct", "SequenceEmpty",
        "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap", "SplitToSequence",
    }
)  # fmt: skip


def versions() -> Iterator[tuple[str, str, int]]:
    for entry in supported():
        if entry.op not in IN_GRAPHS:
            yield from ((entry.domain, entry.op, version) for version in entry.versions)


def calls(domain: str, op: str, version: int) -> list[Call]:
    return [made for made in TABLES[domain][op] if made.since <= version <= made.until]


def opset_of(domain: str, version: int) -> int:
    """The graph's opset: schemas older than the oldest supported opset are met there."""
    return 17 if domain else max(version, OLDEST_OPSET)


def by_module(made: onnx.ModelProto, given: dict[str, Array]) -> list[Array]:
    with torch.no_grad():
        outputs = OnnxModule(made)(**{name: to_torch(array) for name, array in given.items()})
    return [to_numpy(output) for output in (outputs if isinstance(outputs, tuple) else (outputs,))]


def expected(domain: str, op: str, version: int, made: Call) -> list[Array]:
    graph, given = graph_of(domain, op, made, opset_of(domain, version)), feeds(domain, op, made)
    if version > RUNTIME_OPSET:
        return [np.asarray(output) for output in ReferenceEvaluator(graph).run(None, given)]
    if BY_THE_VERSION_BEFORE.get(op) == version:
        with pytest.raises(runtime.NotImplemented):
            by_runtime(graph, given)
        graph = graph_of(domain, op, made, version - 1)
    return by_runtime(graph, given)


@pytest.mark.slow
@pytest.mark.parametrize(("domain", "op", "version"), list(versions()))
def test_every_version_computes_what_the_runtime_computes(domain, op, version):
    tried = calls(domain, op, version)
    assert tried
    for made in tried:
        graph, given = graph_of(domain, op, made, opset_of(domain, version)), feeds(domain, op, made)
        ours = by_module(graph, given)
        theirs = expected(domain, op, version, made)
        for mine, other in zip(ours, theirs, strict=True):
            assert mine.shape == other.shape
            assert mine.dtype == other.dtype
            np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)


def test_every_operator_that_has_a_rule_has_a_call():
    for domain, rules in DOMAINS.items():
        assert set(TABLES[domain]) == set(rules) - IN_GRAPHS
