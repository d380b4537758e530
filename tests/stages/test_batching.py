"""Networks that take one example at a time, and files that write a free batch as -1."""

from typing import Any

import numpy as np
import pytest
import torch

from calibration.batches import take
from pipeline.autograd import OnnxModule
from pipeline.graph.model import Model, free_batch, from_proto, input_specs
from pipeline.stages.batching import takes_batches
from pipeline.stages.opening import open_samples
from tests.graph.small import ints, proto

IMAGE = "float[1,4,3,3] x"
PLAIN = "a = Conv(x, w) f = Flatten(a) y = Gemm(f, v)"
# The batch stands in front of the channels, in one axis with them: no batch but one fits the target.
BAKED = "a = Conv(x, w) r = Reshape(a, pairs) t = Transpose<perm = [1, 0, 2]>(r) f = Reshape(t, flat) y = Gemm(f, v)"
WEIGHTS: dict[str, Any] = {"w": (4, 4, 1, 1), "v": (36, 2)}


def plain() -> Model:
    return from_proto(proto(IMAGE, PLAIN, **WEIGHTS))


def baked() -> Model:
    return from_proto(proto(IMAGE, BAKED, **WEIGHTS, pairs=ints(2, 2, 9), flat=ints(1, 36)))


def test_network_with_its_batch_written_into_a_reshape_takes_one_example_at_a_time() -> None:
    assert takes_batches(plain())
    assert not takes_batches(baked())


def test_network_that_mixes_examples_takes_one_at_a_time() -> None:
    body = "m = ReduceMean<keepdims = 1>(x, zero) c = Sub(x, m) a = Conv(c, w) f = Flatten(a) y = Gemm(f, v)"
    assert not takes_batches(from_proto(proto(IMAGE, body, **WEIGHTS, zero=ints(0))))


@pytest.mark.parametrize(("model", "sizes"), [(plain, [3, 2]), (baked, [1, 1, 1, 1, 1])])
def test_samples_come_in_batches_that_the_network_takes(model, sizes, tmp_path) -> None:
    np.savez(tmp_path / "samples.npz", x=np.zeros((5, 4, 3, 3), np.float32))
    samples = open_samples(model(), str(tmp_path / "samples.npz"), None)
    assert [len(batch.inputs["x"]) for batch in samples.batches(3)] == sizes
    assert take(samples, 2).most == samples.most


def test_module_of_such_a_network_splits_batches_and_joins_what_comes_out() -> None:
    module = OnnxModule(free_batch(baked()), one_by_one=True)
    examples = torch.randn(3, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    together = module(examples)
    assert together.shape == (3, 2)
    assert torch.equal(together, torch.cat([module(examples[n : n + 1]) for n in range(3)]))
    together.sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_free_batch_written_as_minus_one_gets_a_name() -> None:
    old = proto(IMAGE, PLAIN, **WEIGHTS)
    old.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    model = from_proto(old)
    assert model.bound == {"x": (1, 4, 3, 3)}
    assert input_specs(model.proto)[0].shape == ("batch", 4, 3, 3)
    assert all(not dim.dim_value < 0 for value in model.proto.graph.input for dim in value.type.tensor_type.shape.dim)
