"""Batch-norm put back behind convolutions, and folded into them: the same function, the same names."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pipeline.graph.couple import couple
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.fold_batchnorm import fold_batchnorm
from pipeline.graph.insert_batchnorm import Moments, batchnorm_name, folded_convolutions, insert_batchnorm
from pipeline.graph.model import Model, from_proto
from pipeline.graph.proof import outputs_agree, random_feeds
from targets.errors import BadInput
from tests.graph.exports import exported
from tests.graph.small import proto
from tests.graph.zoo import FAMILIES

IMAGE = "float[1,4,6,6] x, float[1] u"  # what is computed with u is no constant
HEAD = "p = GlobalAveragePool(r) f = Flatten(p) y = Gemm<transB = 1>(f, h)"
CONV = f"a = Conv(x, w, b) r = Relu(a) {HEAD}"
WEIGHTS: dict[str, Any] = {"w": (4, 4, 3, 3), "b": (4,), "h": (10, 4)}
NORM: dict[str, Any] = {"s": (4,), "t": (4,), "m": (4,), "v": (4,)}
MORE: dict[str, Any] = {"q": (4,), "k": (4,), "i": (4,), "j": (4,)}
# The families whose layers were built with batch-norm directly behind every convolution, squeeze-and-excite apart.
WITHOUT_ANY = {"squeezenet"}


def small(body: str = CONV, outputs: str = "y", opset: int = 18, **weights: Any) -> Model:
    return from_proto(proto(IMAGE, body, outputs, opset, **{**WEIGHTS, **weights}))


def drawn(model: Model, seed: int = 0) -> dict[str, Moments]:
    """Statistics of about the size that activations have; the function must not depend on them."""
    generator = np.random.default_rng(seed)
    widths = {tensor: model.shapes[tensor][1] for tensor in folded_convolutions(model)}
    return {
        tensor: Moments(generator.standard_normal(width), generator.uniform(0.1, 4, width))
        for tensor, width in widths.items()
    }


def difference(ours: Model, theirs: Model, scale: float = 1.0) -> float:
    feeds = random_feeds(theirs, 0, scale=scale)
    return outputs_agree(run_unoptimised(ours.proto, feeds), run_unoptimised(theirs.proto, feeds))


def norms(model: Model) -> list[onnx.NodeProto]:
    return [node for node in model.proto.graph.node if node.op_type == "BatchNormalization"]


def layers(model: Model) -> list[tuple[str, str, list[str], list[str]]]:
    return [(node.op_type, node.name, list(node.input), list(node.output)) for node in model.proto.graph.node]


def values(model: Model) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.proto.graph.initializer}


# Every family, from both exporters


def folded_exports():
    for family in FAMILIES:
        for exporter in ("legacy_folded", "dynamo_folded"):
            marks = () if exporter.startswith("legacy") else (pytest.mark.slow,)
            yield pytest.param(family, exporter, id=f"{family}-{exporter}", marks=marks)


@pytest.mark.parametrize(("family", "exporter"), list(folded_exports()))
def test_a_folded_export_gets_its_batchnorms_back_and_folding_them_gives_it_again(family, exporter) -> None:
    model = from_proto(exported(family, exporter, free=True))
    kept = from_proto(exported(family, exporter.replace("folded", "kept"), free=True))
    normalised = insert_batchnorm(model, drawn(model))
    if family not in WITHOUT_ANY:
        assert len(norms(normalised)) == len(norms(kept))
    assert difference(normalised, model) < 1e-5
    assert [group.id for group in couple(normalised).groups] == [group.id for group in couple(model).groups]
    again = fold_batchnorm(normalised, only={node.name for node in norms(normalised)} - {n.name for n in norms(model)})
    assert layers(again) == layers(model)
    assert again.shapes == model.shapes
    ours, theirs = values(again), values(model)
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert np.allclose(ours[name], array, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_folding_all_that_an_export_kept_changes_nothing_but_rounding(family) -> None:
    model = from_proto(exported(family, "legacy_kept", free=True))
    folded = fold_batchnorm(model)
    directly = {node.output[0] for node in model.proto.graph.node if node.op_type == "Conv"}
    assert not [node for node in norms(folded) if node.input[0] in directly]
    assert difference(folded, model) < 1e-5
    before = {name: array.shape for name, array in values(model).items()}
    assert {name: array.shape for name, array in values(folded).items()}.items() <= before.items()


# One convolution at a time


@pytest.mark.parametrize(("body", "weights"), [
    (CONV, {}),
    (CONV.replace("Conv(", "Conv<group = 2>("), {"w": (4, 2, 3, 3)}),
    (CONV.replace("Conv(", "Conv<group = 4>("), {"w": (4, 1, 3, 3)}),
    (CONV.replace("Conv(", "ConvTranspose<strides = [2, 2]>("), {}),
    (CONV.replace("Conv(", "ConvTranspose<group = 2>("), {"w": (4, 3, 2, 2), "b": (6,), "h": (10, 6)}),
    (f"a = Conv(x, w, b) s = Sigmoid(a) r = Mul(a, s) {HEAD}", {}),
], ids=["dense", "grouped", "depthwise", "transposed", "transposed-grouped", "two-readers"])  # fmt: skip
def test_putting_back_is_exact_and_folding_undoes_it(body, weights) -> None:
    model = small(body, **weights)
    normalised = insert_batchnorm(model, drawn(model))
    (norm,) = norms(normalised)
    assert norm.name == batchnorm_name("a")
    assert not [node for node in normalised.proto.graph.node if "a" in node.input and node is not norm]
    (conv,) = (node for node in normalised.proto.graph.node if node.output[0] == "a")
    assert list(conv.input) == ["x", "w"]
    assert difference(normalised, model) < 1e-5
    again = fold_batchnorm(normalised)
    assert layers(again) == layers(model)
    assert difference(again, model) < 1e-5


def test_a_norm_with_another_scale_is_folded_into_the_right_channels() -> None:
    for body, weights in (
        (CONV.replace("Conv(", "Conv<group = 2>("), {"w": (4, 2, 3, 3)}),
        (CONV.replace("Conv(", "ConvTranspose<group = 2>("), {"w": (4, 3, 2, 2), "b": (6,), "h": (10, 6)}),
    ):
        normalised = insert_batchnorm(small(body, **weights), drawn(small(body, **weights)))
        trained = onnx.ModelProto()
        trained.CopyFrom(normalised.proto)
        for tensor in trained.graph.initializer:
            if tensor.name.startswith("a:"):
                array = numpy_helper.to_array(tensor) * np.arange(1, tensor.dims[0] + 1, dtype=np.float32)
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        model = Model(trained, normalised.bound, normalised.shapes)
        assert difference(model, normalised) > 1e-2
        assert difference(fold_batchnorm(model), model) < 1e-5


@pytest.mark.parametrize(("gemm", "bias"), [
    ("Gemm<transB = 1>(f, h, c)", (10,)), ("Gemm<transB = 1>(f, h)", None), ("Gemm(f, h, c)", (1, 10)),
    ("Gemm<transB = 1, alpha = 0.5, beta = 2.0>(f, h, c)", (1,)),
])  # fmt: skip
def test_a_norm_after_a_gemm_is_folded_with_its_factors(gemm: str, bias: tuple[int, ...] | None) -> None:
    body = f"p = GlobalAveragePool(x) f = Flatten(p) g = {gemm} n = BatchNormalization(g, s, t, m, v) y = Relu(n)"
    weights: dict[str, Any] = {"s": (10,), "t": (10,), "m": (10,), "v": (10,)}
    weights |= {"h": (10, 4) if "transB" in gemm else (4, 10)} | ({"c": bias} if bias else {})
    model = from_proto(proto(IMAGE, body, **weights))
    folded = fold_batchnorm(model)
    assert [node.op_type for node in folded.proto.graph.node] == ["GlobalAveragePool", "Flatten", "Gemm", "Relu"]
    assert difference(folded, model) < 1e-5


def test_a_dead_channel_stays_exact_and_finite() -> None:
    weight = np.random.default_rng(0).uniform(0.2, 1, (4, 4, 3, 3)).astype(np.float32)
    weight[1] = 0
    model = small(w=weight, b=np.asarray([0.1, 300, 0.2, 0.3], np.float32))
    moments = Moments(np.asarray([0.5, 300, 0.4, 0.2]), np.asarray([1.0, 0.0, 2.0, 1e-12]))
    normalised = insert_batchnorm(model, {"a": moments})
    assert all(np.isfinite(array).all() for array in values(normalised).values())
    assert difference(normalised, model) < 1e-5
    assert difference(fold_batchnorm(normalised), model) < 1e-5


def test_a_chain_of_norms_is_folded_only_as_far_as_nobody_else_reads() -> None:
    chain = "n = BatchNormalization(a, s, t, m, v) o = BatchNormalization(n, q, k, i, j)"
    body = f"a = Conv(x, w, b) {chain} r = Add(n, o) {HEAD}"
    model = small(body, **NORM, **MORE)
    folded = fold_batchnorm(model)
    assert [node.output[0] for node in norms(folded)] == ["o"]
    assert difference(folded, model) < 1e-5


def test_a_norm_that_is_an_output_is_folded_under_its_own_name() -> None:
    model = small("a = Conv(x, w, b) y = BatchNormalization(a, s, t, m, v)", **NORM)
    folded = fold_batchnorm(model)
    assert [(node.op_type, list(node.output)) for node in folded.proto.graph.node] == [("Conv", ["y"])]
    assert difference(folded, model) < 1e-5


# What had none, and what cannot be folded


@pytest.mark.parametrize("body", [
    CONV.replace("Conv(x, w, b)", "Conv(x, w)"),
    "r = Relu(x) y = Conv(r, w, b)",
    f"q = GlobalAveragePool(x) a = Conv<pads = [1, 1, 1, 1]>(q, w, b) r = Relu(a) {HEAD}",
    f"z = Mul(b, u) a = Conv(x, w, z) r = Relu(a) {HEAD}",
    f"a = Conv(x, w, b) n = InstanceNormalization(a, s, t) r = Relu(n) {HEAD}",
    f"a = Conv(x, w, b) d = DepthToSpace<blocksize = 2>(a) r = Concat<axis = 1>(d, d, d, d) {HEAD}",
    f"a = Conv(x, w, b) r = BatchNormalization(a, s, t, m, v) {HEAD}",
], ids=["no-bias", "last", "one-position", "computed-bias", "other-norm", "pixel-shuffle", "has-one"])  # fmt: skip
def test_a_convolution_that_had_no_batchnorm_gets_none(body: str) -> None:
    assert folded_convolutions(small(body, **NORM)) == ()


def test_a_convolution_that_is_seen_outside_gets_none() -> None:
    assert folded_convolutions(small(outputs="y,a")) == ()


def test_statistics_that_do_not_fit_are_refused() -> None:
    model = small()
    for mean, variance in (([0.0] * 3, [1.0] * 3), ([0, 0, np.nan, 0], [1.0] * 4), ([0.0] * 4, [1, 1, 1, -1.0])):
        with pytest.raises(BadInput, match="statistics of 'a' are not finite, or not one number for each"):
            insert_batchnorm(model, {"a": Moments(np.asarray(mean, np.float64), np.asarray(variance, np.float64))})
    with pytest.raises(BadInput, match="No batch-norm can be put behind 'y'"):
        insert_batchnorm(model, {"y": Moments(np.zeros(10), np.ones(10))})


@pytest.mark.parametrize(("body", "outputs"), [
    (f"a = Conv(x, w, b) n = BatchNormalization(a, s, t, m, v) r = Add(a, n) {HEAD}", "y"),
    (f"a = Conv(x, w, b) r = BatchNormalization(a, s, t, m, v) {HEAD}", "y,a"),
    (f"k = Mul(w, u) a = Conv(x, k, b) r = BatchNormalization(a, s, t, m, v) {HEAD}", "y"),
    (f"k = Mul(s, u) a = Conv(x, w, b) r = BatchNormalization(a, k, t, m, v) {HEAD}", "y"),
    (f"z = BatchNormalization(x, s, t, m, v) r = Conv(z, w, b) {HEAD}", "y"),
], ids=["second-reader", "seen-outside", "computed-weight", "computed-scale", "before"])  # fmt: skip
def test_a_norm_that_cannot_be_folded_exactly_stays(body: str, outputs: str) -> None:
    model = small(body, outputs, **NORM)
    assert fold_batchnorm(model) is model
