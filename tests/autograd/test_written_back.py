"""An untouched module writes the graph back: outputs equal bit for bit, and equal to what the module computes."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from pipeline.autograd import OnnxModule
from pipeline.graph.model import load
from pipeline.graph.proof import random_feeds
from targets.errors import BadInput
from tests.autograd.graphs import Array, by_runtime, by_torch
from tests.autograd.networks import SIDE, written
from tests.graph.exports import exported
from tests.graph.zoo import FAMILIES, example

FOLDER = Path(os.environ.get("CUTBACK_MODELS", "no models"))  # a folder of networks that others trained
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "silero_vad_op18_ifless.onnx": {"input": (1, 512), "state": (2, 1, 128)},
    "yunet_n_dynamic.onnx": {"input": (1, 3, 160, 192)},
}
SCALE = {"sr_safmnpp__ts.onnx": 0.1, "sr_span_ch28__dynamo.onnx": 0.1}  # images; larger numbers overflow in them
REFUSED = {"superres_prepost_op18.onnx": "com.microsoft.extensions"}  # decodes image files


def prove(made: onnx.ModelProto, feeds: dict[str, Array]) -> OnnxModule:
    module = OnnxModule(made)
    back, before = by_runtime(module.to_onnx(), feeds), by_runtime(made, feeds)
    assert [output.tobytes() for output in back] == [output.tobytes() for output in before]
    for ours, theirs in zip(by_torch(module, feeds), before, strict=True):
        # The runtime's own Sigmoid is off by up to a millionth.
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * max(float(np.abs(theirs).max()), 5e-3))
    return module


@pytest.mark.parametrize("name", ["unet", "vit"])
def test_untouched_networks_give_equal_outputs_bit_for_bit(name):
    made = written(name)
    prove(made, {made.graph.input[0].name: np.random.default_rng(0).normal(size=(2, 3, SIDE, SIDE)).astype("f4")})


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["legacy_kept", "dynamo_folded"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_small_network_gives_equal_outputs_bit_for_bit(family, exporter):
    made = exported(family, exporter, free=False)
    prove(made, {made.graph.input[0].name: example()[0].numpy()})


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER.is_dir(), reason="needs models that are not in the repository")
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.onnx")), ids=lambda path: path.name)
def test_real_networks_give_equal_outputs_bit_for_bit_and_every_output_has_gradients(path):
    if path.name in REFUSED:
        with pytest.raises(BadInput, match=REFUSED[path.name]):
            OnnxModule(onnx.load(path))
        return
    plain = load(path, SHAPES.get(path.name))
    feeds = random_feeds(plain, seed=0, scale=SCALE.get(path.name, 1.0))
    for made in (onnx.load(path), plain.proto):
        module = prove(made, feeds)
        outputs = module(*[torch.from_numpy(value) for value in feeds.values()])
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        sum(output.square().mean() for output in outputs if output.requires_grad).backward()
        without = {name for name, weight in module.named_parameters() if weight.grad is None}
        read = {
            module.tensor_names[name] for node in made.graph.node for name in node.input if name in module.tensor_names
        }
        assert not without & read  # of an If, the branch that is not taken has none
        assert len(without) <= len(list(module.parameters())) / 2
