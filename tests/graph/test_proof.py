"""What the proof lets through and what it stops."""

from typing import Any

import numpy as np
import onnx
import pytest

from pipeline.graph.cut import cut, masked
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.flops import node_flops, paper_cost
from pipeline.graph.model import from_proto
from pipeline.graph.proof import finite_feeds, outputs_agree, prove, random_feeds
from pipeline.prune import prune
from targets.errors import BadInput, ProofFailed
from tests.graph.small import coupled, proto

IMAGE = "float[1,3,4,4] x"
TWO = "a = Conv(x, w) y = Conv(a, v)"
WEIGHTS: dict[str, Any] = {"w": (4, 3, 1, 1), "v": (2, 4, 1, 1)}


def test_cut_that_took_another_channel_fails() -> None:
    model, channels, _ = coupled(IMAGE, TWO, **WEIGHTS)
    with pytest.raises(ProofFailed, match="differs from the masked original"):
        prove(cut(model, channels, {"a": (0, 1)}), masked(model, channels, {"a": (0, 2)}))


def test_inexact_cut_equals_the_original_whose_softmax_leaves_the_removed_channels_out() -> None:
    model, channels, groups = coupled(IMAGE, "a = Conv(x, w) s = Softmax<axis = 1>(a) y = Conv(s, v)", **WEIGHTS)
    kept = {"a": (0, 1)}
    assert not groups["a"].exact
    original = masked(model, channels, kept)
    prove(cut(model, channels, kept), original)
    feeds = finite_feeds(model, 0)
    assert outputs_agree(run_unoptimised(original.proto, feeds), run_unoptimised(model.proto, feeds)) > 1e-2


def test_infinities_agree_where_they_are_the_same_ones() -> None:
    theirs = {"y": np.asarray([1, np.inf, -np.inf, np.nan], np.float32)}
    assert outputs_agree({"y": np.asarray([1.5, np.inf, -np.inf, np.nan], np.float32)}, theirs) == 0.5
    assert outputs_agree({"y": np.asarray([1, -np.inf, -np.inf, np.nan], np.float32)}, theirs) == np.inf
    assert outputs_agree({"y": np.asarray([1, np.inf, -np.inf, 0], np.float32)}, theirs) == np.inf


def test_tolerance_grows_with_the_networks_own_noise_only() -> None:
    model, channels, _ = coupled(IMAGE, TWO, **WEIGHTS)
    proof = prove(cut(model, channels, {"a": (0,)}), masked(model, channels, {"a": (0,)}))
    assert proof.noise < 1e-5
    assert proof.tolerance == pytest.approx(max(1e-5, 8 * proof.noise))


def test_network_that_overflows_on_large_inputs_is_compared_on_smaller_ones() -> None:
    body = "a = Conv(x, w) m = Mul(a, k) e = Exp(m) y = Conv(e, v)"
    model, channels, _ = coupled(IMAGE, body, **WEIGHTS, k=np.asarray(40, np.float32))
    proof = prove(cut(model, channels, {"a": (0, 3)}), masked(model, channels, {"a": (0, 3)}))
    assert proof.scale < 1
    assert np.isfinite(finite_feeds(model, 0)["x"]).all()


def test_removed_channel_that_is_infinite_is_no_defect() -> None:
    body = "a = Conv(x, w) m = Mul(a, k) e = Exp(m) r = Reciprocal(e) s = Add(e, r) y = Conv(s, v)"
    k = np.asarray([0, 1e6, 1e6, 0], np.float32).reshape(1, 4, 1, 1)
    model, channels, _ = coupled(IMAGE, body, **WEIGHTS, k=k)
    with pytest.raises(BadInput, match="some channels of e are infinite or no number"):
        prove(cut(model, channels, {"a": (0, 3)}), masked(model, channels, {"a": (0, 3)}))


def test_removed_channel_that_is_no_number_is_no_defect() -> None:
    k = np.asarray([1, 0, 0, 1], np.float32).reshape(1, 4, 1, 1)
    body = "a = Conv(x, w) m = Mul(a, k) q = Div(m, m) y = Conv(q, v)"
    model, channels, _ = coupled(IMAGE, body, **WEIGHTS, k=k)
    with pytest.raises(BadInput, match="some channels of q are infinite or no number"):
        prove(cut(model, channels, {"a": (0, 3)}), masked(model, channels, {"a": (0, 3)}))


def test_a_cut_that_has_numbers_where_no_removed_channel_explains_it_is_a_defect() -> None:
    model, channels, _ = coupled(IMAGE, TWO, **WEIGHTS)
    broken, *_ = coupled(IMAGE, TWO, **{**WEIGHTS, "v": np.full((2, 4, 1, 1), np.nan, np.float32)})
    with pytest.raises(ProofFailed, match="outputs are no number where the cut network's are"):
        prove(cut(model, channels, {"a": (0, 3)}), masked(broken, channels, {"a": (0, 3)}))


THRESHOLD = "a = Conv(x, w) b = Sub(a, k) c = Relu(b) y = Conv(c, v)"


def test_network_that_is_silent_on_small_inputs_is_compared_on_larger_ones() -> None:
    model, channels, _ = coupled(IMAGE, THRESHOLD, **WEIGHTS, k=np.asarray(20, np.float32))
    proof = prove(cut(model, channels, {"a": (0, 1)}), masked(model, channels, {"a": (0, 1)}))
    assert proof.scale > 1
    assert proof.doubt is None
    with pytest.raises(ProofFailed):
        prove(cut(model, channels, {"a": (0, 1)}), masked(model, channels, {"a": (0, 2)}))


def test_proof_on_outputs_that_never_change_carries_a_doubt() -> None:
    model, channels, _ = coupled(IMAGE, THRESHOLD, **WEIGHTS, k=np.asarray(1e9, np.float32))
    proof = prove(cut(model, channels, {"a": (0, 1)}), masked(model, channels, {"a": (0, 1)}))
    assert proof.relative_error == 0
    assert "the same for every random input" in str(proof.doubt)


def test_prune_hands_on_the_doubt_of_its_proof(tmp_path) -> None:
    for name, level in (("loud", 0), ("silent", 1e9)):
        onnx.save(proto(IMAGE, THRESHOLD, **WEIGHTS, k=np.asarray(level, np.float32)), tmp_path / f"{name}.onnx")
    loud, silent = (
        prune(str(tmp_path / f"{name}.onnx"), tmp_path / "cut.onnx", keep=0.5) for name in ("loud", "silent")
    )
    assert loud["doubts"] == []
    assert silent["doubts"] == [silent["proof"]["doubt"]]


def test_random_inputs_have_the_declared_types_and_shapes() -> None:
    model = from_proto(proto("uint8[1,3] p, bool[2] q, int64[4] r, float[1,2] s", "y = Identity(s)"))
    feeds = random_feeds(model, 0)
    assert {name: (str(value.dtype), value.shape) for name, value in feeds.items()} == {
        "p": ("uint8", (1, 3)), "q": ("bool", (2,)), "r": ("int64", (4,)), "s": ("float32", (1, 2)),
    }  # fmt: skip


def test_multiply_adds_are_counted_for_convolutions_and_products() -> None:
    body = "a = Conv(x, w) b = com.microsoft.FusedConv<group = 2>(a, g) c = ConvTranspose(b, t) y = Relu(c)"
    model = from_proto(proto(IMAGE, body, w=(4, 3, 1, 1), g=(4, 2, 1, 1), t=(4, 2, 1, 1)))
    assert [node_flops(node, model) for node in model.proto.graph.node] == [16 * 12, 16 * 8, 16 * 8, 0]
    assert paper_cost(model).params == 12 + 8 + 8
