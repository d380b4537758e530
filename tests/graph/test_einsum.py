"""Einsum is written as what it is made of; then channels go through it as through any product."""

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from pipeline.graph.execute import run_unoptimised
from pipeline.graph.model import from_proto
from tests.graph.small import coupled, is_exact

IMAGE = "float[1,3,4,4] x"
# Equation, the operands' shapes, whether the second is a constant.
WRITTEN: dict[str, tuple[list[tuple[int, ...]], bool]] = {
    "ij,jk->ik": ([(2, 3), (3, 4)], False),
    "ij,kj->ik": ([(2, 3), (4, 3)], False),
    "bij,bjk->bik": ([(2, 3, 4), (2, 4, 5)], False),
    "bhqd,bhkd->bhqk": ([(2, 3, 4, 5), (2, 3, 6, 5)], False),
    "bqhd,bkhd->bhqk": ([(2, 4, 3, 5), (2, 6, 3, 5)], False),
    "bchw,oc->bohw": ([(2, 3, 4, 5), (6, 3)], True),
    "bnd,dhk->bnhk": ([(2, 4, 6), (6, 3, 2)], True),
    "bnhk,hkd->bnd": ([(2, 4, 3, 2), (3, 2, 5)], True),
    "bchw,bc->bchw": ([(2, 3, 4, 5), (2, 3)], False),
    "bi,bj->bij": ([(2, 4), (2, 3)], False),
    "i,i->": ([(3,), (3,)], False),
    "ij,j->i": ([(2, 3), (3,)], False),
    "i,ij->j": ([(2,), (2, 3)], False),
    "bij,jk->ik": ([(2, 3, 4), (4, 5)], False),
    "ij->ji": ([(2, 3)], False),
    "bij->b": ([(2, 3, 4)], False),
    "ij->ij": ([(2, 3)], False),
}
# What stays an Einsum: diagonals, ellipses, three operands, free sizes that would have to be written down.
STAYING: dict[str, list[tuple[int, ...]]] = {
    "ii->i": [(3, 3)],
    "...ij->...ji": [(2, 3, 4)],
    "ij,jk,kl->il": [(2, 3), (3, 4), (4, 5)],
    "bnhk,hkd->bnd": [(2, 4, 3, 2), (3, 2, 5)],
}


def einsum(equation: str, shapes: list[tuple[int, ...]], constant: bool, opset: int) -> Any:
    names = ["a", "b", "c"][: len(shapes)]
    node = helper.make_node("Einsum", names, ["y"], equation=equation)
    values = {
        n: np.random.default_rng(0).standard_normal(s).astype(np.float32) for n, s in zip(names, shapes, strict=True)
    }
    weights = [numpy_helper.from_array(values.pop("b"), "b")] if constant else []
    inputs = [helper.make_tensor_value_info(name, 1, value.shape) for name, value in values.items()]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", 1, None)], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), values


@pytest.mark.parametrize("opset", [12, 18])
@pytest.mark.parametrize("equation", WRITTEN)
def test_einsum_is_written_as_products_and_sums(equation, opset) -> None:
    shapes, constant = WRITTEN[equation]
    source, feeds = einsum(equation, shapes, constant, opset)
    plain = from_proto(source).proto
    assert "Einsum" not in {node.op_type for node in plain.graph.node}
    ours, theirs = run_unoptimised(plain, feeds)["y"], run_unoptimised(source, feeds)["y"]
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("equation", STAYING)
def test_einsum_that_is_no_single_product_stays(equation) -> None:
    source, _ = einsum(equation, STAYING[equation], False, 18)
    assert "Einsum" in {node.op_type for node in from_proto(source).proto.graph.node}


def test_einsum_with_a_weight_is_cut_on_both_sides() -> None:
    body = 'a = Conv(x, w) b = Einsum<equation = "bchw,oc->bohw">(a, m) y = Conv(b, v)'
    model, channels, groups = coupled(IMAGE, body, w=(4, 3, 1, 1), m=(5, 4), v=(2, 5, 1, 1))
    free = {group.id: group.channels for group in groups.values() if not group.locked_because}
    assert sorted(free.values()) == [4, 5]
    assert is_exact(model, channels, dict.fromkeys(free, (0, 2)))


def test_einsum_that_stays_locks_with_the_reason() -> None:
    body = 'a = Conv(x, w) b = Einsum<equation = "bcii->bci">(a) y = ReduceSum(b)'
    _, _, groups = coupled(IMAGE, body, w=(4, 3, 1, 1))
    assert "Einsum (Einsum_b) sums over" in (groups["a"].locked_because or "")
