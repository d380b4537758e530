"""Quantise / dequantise pairs."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from calibration.quantize import SCHEMES, Scheme, quantised
from calibration.ranges import Range, with_zero
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.fold_batchnorm import fold_batchnorm
from pipeline.graph.model import from_proto
from pipeline.stages.quantizing import Observer
from tests.targets.models import residual

X = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
CONVOLUTIONS = ("a/conv", "b/conv", "c/conv")


def network() -> onnx.ModelProto:
    return fold_batchnorm(from_proto(residual())).proto


def ranges(model: onnx.ModelProto) -> dict[str, Range]:
    """Of the values on X."""
    seen = Observer(from_proto(model))({"x/in:0": X})
    return {name: with_zero(float(values.min()), float(values.max())) for name, values in seen.items()}


def made(scheme: Scheme, exclude: tuple[str, ...] = ()) -> onnx.ModelProto:
    model = network()
    return quantised(model, ranges(model), scheme, exclude)


def readers_of_pairs(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes all of whose float inputs come dequantised."""
    dequantised = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return {node.name for node in model.graph.node if node.name in CONVOLUTIONS and set(node.input[:2]) <= dequantised}


@pytest.mark.parametrize("runtime", SCHEMES)
def test_every_convolution_reads_integers_and_the_network_computes_nearly_the_same(runtime: str) -> None:
    model = made(SCHEMES[runtime])
    onnx.checker.check_model(model, full_check=True)  # sorted, too
    assert readers_of_pairs(model) == set(CONVOLUTIONS)
    got, expected = (run_unoptimised(each, {"x/in:0": X})["y"] for each in (model, network()))
    assert np.abs(got - expected).max() < 0.1 * np.abs(expected).max()
    assert np.abs(got - expected).max() > 0


@pytest.mark.parametrize("runtime", SCHEMES)
def test_weights_have_a_scale_for_every_output_channel_and_no_zero_point(runtime: str) -> None:
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in made(SCHEMES[runtime]).graph.initializer}
    for name, channels in (("w1", 20), ("w2", 20), ("w3", 6)):
        assert tensors[f"{name}_scale"].shape == (channels,)
        assert not tensors[f"{name}_zero_point"].any()
        assert tensors[f"{name}_quantized"].dtype == np.int8


def test_each_scheme_has_the_activations_that_its_runtime_wants() -> None:
    kinds = {
        runtime: {t.data_type for t in made(scheme).graph.initializer if t.name.endswith("in:0_zero_point")}
        for runtime, scheme in SCHEMES.items()
    }
    assert kinds["onnxruntime"] == kinds["openvino"] == {TensorProto.UINT8}
    assert kinds["tensorrt"] == kinds["tensorrt-rtx"] == {TensorProto.INT8}


def test_tensorrt_gets_its_biases_in_floating_point() -> None:
    assert any(t.data_type == TensorProto.INT32 for t in made(SCHEMES["onnxruntime"]).graph.initializer)
    assert not any(t.data_type == TensorProto.INT32 for t in made(SCHEMES["tensorrt"]).graph.initializer)


def test_narrow_weights_use_seven_bits() -> None:
    for narrow, largest in ((False, 127), (True, 64)):
        model = made(Scheme(narrow=narrow))
        weights = [numpy_helper.to_array(t) for t in model.graph.initializer if t.name.endswith("_quantized")]
        found = max(np.abs(w.astype(int)).max() for w in weights if w.dtype == np.int8)
        assert found == largest


def test_what_is_excluded_stays_in_floating_point() -> None:
    model = made(Scheme(), ("b/conv",))
    assert readers_of_pairs(model) == {"a/conv", "c/conv"}
    assert any(t.name == "w2" and t.data_type == TensorProto.FLOAT for t in model.graph.initializer)


def test_the_original_stays_as_it_was() -> None:
    model = network()
    before = model.SerializeToString()
    quantised(model, ranges(model), Scheme())
    assert model.SerializeToString() == before
