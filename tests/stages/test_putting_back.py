"""Where batch-norm is put back, what it is measured on, and that the two networks are one to every plan."""

from typing import Any

import numpy as np
import onnx
import pytest

from calibration.arrays import ArraySamples
from calibration.batches import Subset
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.model import Model, free_batch, from_proto
from pipeline.stages.moments import channel_moments
from pipeline.stages.putting_back import (
    as_opened,
    fold_again,
    put_back,
    to_put_back,
    worth_putting_back,
)
from targets.errors import BadInput, ProofFailed
from tests.graph.exports import exported
from tests.graph.small import proto
from tests.graph.test_batchnorm import difference, norms
from tests.stages.networks import images, of


def given(family: str = "resnet_basic", exporter: str = "legacy_folded", *, free: bool = True) -> Model:
    return from_proto(exported(family, exporter, free=free))


@pytest.mark.parametrize("opset", [11, 17])
def test_moments_are_those_of_all_samples_and_positions(opset: int) -> None:
    model = from_proto(proto("float[1,3,8,8] x", "a = Conv(x, w, b) y = Conv(a, v)", opset=opset,
                             w=(4, 3, 3, 3), b=(4,), v=(2, 4, 1, 1)))  # fmt: skip
    pictures = np.random.default_rng(0).normal(3, 2, (40, 3, 8, 8)).astype(np.float32)
    found, count = channel_moments(model, ("a",), ArraySamples({"x": pictures}, None, {}), count=1024)
    shown = free_batch(model)
    shown.graph.output.append(onnx.ValueInfoProto(name="a"))
    seen = run_unoptimised(shown, {"x": pictures})["a"].astype(np.float64)
    assert count == 40
    assert np.allclose(found["a"].mean, seen.mean((0, 2, 3)))
    assert np.allclose(found["a"].variance, seen.var((0, 2, 3)))


def test_no_more_samples_are_read_than_asked_for() -> None:
    model = given("vgg")
    assert channel_moments(model, worth_putting_back(model)[0], images(50), count=20)[1] == 20


def test_a_sample_that_is_not_finite_is_named() -> None:
    pictures = images(40).read(np.arange(40)).inputs["input"].copy()
    pictures[20, 0, 3, 3] = np.nan
    model = given("vgg")
    with pytest.raises(BadInput, match=r"is not finite on samples 16 to 31 of those that batch-norm"):
        put_back(model, worth_putting_back(model)[0], ArraySamples({"input": pictures}, None, {}))


def test_samples_that_the_network_cannot_take_are_one_clear_line() -> None:
    wrong = ArraySamples({"input": np.zeros((4, 3, 20, 20), np.float32)}, None, {})
    model = given("vgg", free=True)
    with pytest.raises(BadInput, match=r"^The network cannot run a batch of 4: [^\n]*dynamic batch axis\.$"):
        channel_moments(model, worth_putting_back(model)[0], wrong, count=4)


def test_without_samples_nothing_is_measured() -> None:
    empty = Subset(images(4), np.zeros(0, np.int64))
    model = given("vgg")
    with pytest.raises(BadInput, match="There are no samples"):
        channel_moments(model, worth_putting_back(model)[0], empty, count=4)


@pytest.mark.parametrize("family", ["resnet_parameter_free", "densenet", "regnet", "mobilenet_v3"])
def test_put_back_is_proven_and_a_plan_of_the_one_is_a_plan_of_the_other(family: str) -> None:
    model = given(family)
    tensors, _ = worth_putting_back(model)
    normalised, record = put_back(model, tensors, images(32))
    assert (record["put_back"], record["samples"]) == (len(tensors), 32)
    assert record["relative_error"] <= record["tolerance"]
    ours, theirs = (net.channels.groups for net in (as_opened(normalised, of(model)), of(model)))
    assert [(group.id, group.channels) for group in ours] == [(group.id, group.channels) for group in theirs]
    folded, folding = fold_again(normalised, tensors)
    assert len(norms(folded)) == len(norms(model))  # those that the user's graph had are still there
    assert folding["folded_relative_error"] <= folding["folded_tolerance"]
    assert difference(folded, model) < 1e-5


def test_the_statistics_of_what_was_put_back_are_those_of_the_data() -> None:
    """In train mode, on the same data, the normalised network gives what it gives at inference."""
    import torch

    from pipeline.autograd.module import OnnxModule

    model, samples = given("resnet_basic"), images(48)
    normalised, _ = put_back(model, worth_putting_back(model)[0], samples)
    module = OnnxModule(free_batch(normalised))
    batch = torch.from_numpy(samples.read(np.arange(48)).inputs["input"])
    with torch.no_grad():
        at_inference = module.eval()(batch)
        in_training = module.train()(batch)
    torch.testing.assert_close(in_training, at_inference, rtol=1e-3, atol=1e-3)


def test_another_networks_groups_are_refused() -> None:
    with pytest.raises(ProofFailed, match="other channels go together"):
        as_opened(given("vgg"), of(given("resnet_basic")))


def test_nothing_is_folded_where_nothing_was_put_back() -> None:
    kept = given("resnet_basic", "legacy_kept")
    assert fold_again(kept, ()) == (kept, {})


PICTURE = "float[1,3,8,8] x"
WIDE: dict[str, Any] = {"w": (8, 3, 1, 1), "b": (8,)}
TO_PICTURE = "a = Conv(x, w, b) r = Relu(a) c = Conv(r, v, d) y = DepthToSpace<blocksize = 2>(c)"
OTHER_NORM = "a = Conv(x, w, b) r = Relu(a) n = LayerNormalization(r, s) y = Conv(n, v)"
OWN = "a = Conv(x, w, b) r = Relu(a) c = Conv(r, v) n = BatchNormalization(c, s, t, m, z) y = Conv(n, k)"


def to_picture() -> Model:
    return from_proto(proto(PICTURE, TO_PICTURE, **WIDE, v=(12, 8, 1, 1), d=(12,)))


def other_norm() -> Model:
    return from_proto(proto(PICTURE, OTHER_NORM, **WIDE, v=(2, 8, 1, 1), s=(8,)))


def own() -> Model:
    norm: dict[str, Any] = {"s": (4,), "t": (4,), "m": (4,), "z": (4,)}
    return from_proto(proto(PICTURE, OWN, **WIDE, v=(4, 8, 1, 1), k=(2, 4, 1, 1), **norm))


def kept() -> Model:
    return given("resnet_basic", "legacy_kept")


@pytest.mark.parametrize(("network", "because"), [
    (kept, "no convolution is without one"), (to_picture, "pictures to pictures"), (other_norm, "in another way"),
    (own, "has its own"),
])  # fmt: skip
def test_by_default_none_is_put_back_where_none_was_and_the_reason_is_said(network, because: str) -> None:
    tensors, why = worth_putting_back(network())
    assert tensors == ()
    assert because in why


def test_what_is_asked_for_outweighs_the_default() -> None:
    assert to_put_back(to_picture(), "put-back", trains=True) == (("a",), "")
    assert to_put_back(given("vgg"), "as-given", trains=True) == ((), "asked for as given")
    assert to_put_back(given("vgg"), "auto", trains=False) == ((), "the network is not trained")
    assert len(to_put_back(given("vgg"), "auto", trains=True)[0]) == 4
