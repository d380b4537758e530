"""Op rules against ONNX Runtime, mostly where attributes moved between opsets or torch has no kernel of its own."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.autograd import OnnxModule, supported
from targets.errors import BadInput
from tests.autograd.graphs import by_runtime, by_torch, floats, model, node

INTS = {name: np.array(values, np.int64) for name, values in {"one": [1], "two_three": [2, 3], "minus": [-1]}.items()}


def agree(made, feeds):
    for ours, theirs in zip(by_torch(OnnxModule(made), feeds), by_runtime(made, feeds), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("attributes", "shape"),
    [
        ({"strides": [2, 2], "pads": [0, 1, 2, 1]}, (4, 2, 3, 3)),
        ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, (4, 2, 4, 4)),
        ({"auto_pad": "SAME_LOWER", "strides": [3, 2]}, (4, 2, 4, 3)),
        ({"auto_pad": "VALID", "dilations": [2, 1]}, (4, 2, 3, 3)),
        ({"group": 2, "pads": [1, 1, 1, 1], "dilations": [2, 2]}, (4, 1, 3, 3)),
    ],
)
def test_convolutions_pad_as_the_runtime_does(attributes, shape):
    made = model([node("Conv", "x w b", **attributes)], {"x": ("N", 2, 9, 10)}, {"w": floats(*shape), "b": floats(4)})
    agree(made, {"x": floats(2, 2, 9, 10, seed=1)})


@pytest.mark.parametrize("rank", [1, 3])
def test_convolutions_run_over_one_and_three_axes(rank):
    size, kernel = (7,) * rank, (3,) * rank
    made = model([node("Conv", "x w", pads=[1, 0] * rank)], {"x": ("N", 2, *size)}, {"w": floats(4, 2, *kernel)})
    agree(made, {"x": floats(2, 2, *size, seed=1)})


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [2, 2], "output_padding": [1, 1], "pads": [1, 1, 1, 1]},
        {"strides": [2, 2], "pads": [0, 1, 1, 0]},
        {"strides": [2, 2], "output_shape": [13, 13]},
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
        {"group": 2, "dilations": [2, 2]},
    ],
)
def test_transposed_convolutions_crop_as_the_runtime_does(attributes):
    weights = {"w": floats(4, 3, 3, 3), "b": floats(3 * attributes.get("group", 1))}
    made = model([node("ConvTranspose", "x w b", **attributes)], {"x": ("N", 4, 6, 6)}, weights)
    agree(made, {"x": floats(2, 4, 6, 6, seed=1)})


@pytest.mark.parametrize(
    "attributes",
    [{}, {"transA": 1}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0}, {"transA": 1, "transB": 1, "alpha": 0.1}],
)
def test_gemm_transposes_and_scales(attributes):
    rows = (4, 3) if attributes.get("transA") else (3, 4)
    columns = (5, 4) if attributes.get("transB") else (4, 5)
    made = model([node("Gemm", "x w c", **attributes)], {"x": rows}, {"w": floats(*columns), "c": floats(3, 1)})
    agree(made, {"x": floats(*rows, seed=1)})


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    "attributes",
    [
        {"ceil_mode": 1, "strides": [2, 2]},
        {"ceil_mode": 1, "strides": [3, 2], "pads": [1, 1, 1, 1]},
        {"pads": [0, 1, 2, 0], "strides": [2, 2]},
        {"ceil_mode": 1, "pads": [0, 1, 2, 0], "strides": [2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER"},
        {"pads": [2, 2, 2, 2]},
    ],
)
def test_pools_pad_as_the_runtime_does(op, attributes):
    made = model([node(op, "x", kernel_shape=[3, 3], **attributes)], {"x": ("N", 2, 8, 9)}, opset=19)
    agree(made, {"x": floats(2, 2, 8, 9) - 5})
    if op == "AveragePool" and "ceil_mode" not in attributes:
        counted = node(op, "x", kernel_shape=[3, 3], count_include_pad=1, **attributes)
        agree(model([counted], {"x": ("N", 2, 8, 9)}, opset=19), {"x": floats(2, 2, 8, 9) - 5})


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pools_dilate(op):
    made = model(
        [node(op, "x", kernel_shape=[3, 2], dilations=[2, 2], pads=[1, 0, 1, 0])], {"x": ("N", 2, 8, 9)}, opset=19
    )
    agree(made, {"x": floats(2, 2, 8, 9)})


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax_flattens_before_opset_13(op, opset, axis):
    made = model([node(op, "x", axis=axis)], {"x": (2, 3, 4)}, opset=opset)
    agree(made, {"x": floats(2, 3, 4)})


@pytest.mark.parametrize(
    ("nodes", "opset"),
    [
        ([node("Clip", "x", min=-0.5, max=0.5)], 9),
        ([node("Squeeze", "x", "s", axes=[1]), node("Unsqueeze", "s", axes=[0])], 11),
        ([node("Slice", "x", starts=[1], ends=[-1], axes=[2])], 9),
        ([node("Split", "x", "a b", axis=2, split=[1, 3]), node("Concat", "b a", axis=2)], 11),
        ([node("Pad", "x", pads=[0, 0, 1, 0, 0, 2], value=3.0)], 9),
        ([node("Dropout", "x", ratio=0.5)], 9),
        ([node("ReduceSum", "x", axes=[1], keepdims=0)], 11),
        ([node("ReduceMean", "x", axes=[-1], keepdims=1)], 13),
        ([node("Upsample", "x", scales=[1.0, 1.0, 2.0], mode="nearest")], 7),
        ([node("BatchNormalization", "x a b c d", spatial=1)], 7),
        ([node("Flatten", "x", axis=2)], 9),
    ],
)
def test_attributes_of_older_opsets_are_read(nodes, opset):
    affine = {name: np.full(1, value, np.float32) for name, value in zip("abcd", (2, 1, 0.5, 3), strict=True)}
    made = model(nodes, {"x": (2, 1, 4)}, affine if "d" in nodes[0].input else None, opset=opset)
    if nodes[0].op_type == "Upsample":
        np.testing.assert_array_equal(
            by_torch(OnnxModule(made), {"x": floats(2, 1, 4)})[0], floats(2, 1, 4).repeat(2, axis=2)
        )
    else:
        agree(made, {"x": floats(2, 1, 4)})


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_pads_of_every_mode_follow_the_runtime(mode):
    pads = {"p": np.array([0, 1, 2, 0, 0, 1, 1, 3], np.int64)}
    agree(model([node("Pad", "x p", mode=mode)], {"x": ("N", 3, 4, 5)}, pads), {"x": floats(2, 3, 4, 5)})


def test_slices_step_backwards():
    bounds = {"s": [-1, 0], "e": [-100, 4], "a": [2, 3], "t": [-1, 2]}
    made = model(
        [node("Slice", "x s e a t")], {"x": ("N", 2, 4, 5)}, {k: np.array(v, np.int64) for k, v in bounds.items()}
    )
    agree(made, {"x": floats(2, 2, 4, 5)})


@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("scale", [2.0, 0.6, 1.7])
def test_resizes_follow_the_runtime_in_every_coordinate_mode(coordinates, mode, scale):
    resize = node("Resize", "x _ s", mode=mode, coordinate_transformation_mode=coordinates)
    made = model([resize], {"x": ("N", 2, 5, 7)}, {"s": np.array([1, 1, scale, scale], np.float32)})
    agree(made, {"x": floats(2, 2, 5, 7)})


@pytest.mark.parametrize("nearest", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
def test_nearest_modes_round_as_the_runtime_does(nearest):
    resize = node("Resize", "x _ _ s", mode="nearest", nearest_mode=nearest)
    made = model([resize], {"x": (1, 2, 5, 7)}, {"s": np.array([1, 2, 3, 11], np.int64)})
    agree(made, {"x": floats(1, 2, 5, 7)})


def test_prelu_takes_slopes_of_any_shape_that_broadcasts():
    for shape in [(1,), (3, 1, 1), (3, 4, 1), (1, 1, 5)]:
        agree(model([node("PRelu", "x s")], {"x": ("N", 3, 4, 5)}, {"s": floats(*shape)}), {"x": floats(2, 3, 4, 5)})


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("InstanceNormalization", "x g b", {"epsilon": 1e-3}),
        ("LayerNormalization", "x g6 b6", {}),
        ("LayerNormalization", "x g6", {"axis": -1, "epsilon": 1e-2}),
        ("LRN", "x", {"size": 3}),
        ("LRN", "x", {"size": 5, "alpha": 0.1}),
    ],
)
def test_norms_follow_the_runtime(op, inputs, attributes):
    affine = {"g": floats(4), "b": floats(4, seed=1), "g6": floats(6), "b6": floats(6, seed=2)}
    agree(model([node(op, inputs, **attributes)], {"x": ("N", 4, 5, 6)}, affine), {"x": floats(2, 4, 5, 6)})


@pytest.mark.parametrize("order", [1, 2, 3])
def test_global_norms_follow_the_runtime(order):
    agree(model([node("GlobalLpPool", "x", p=order)], {"x": ("N", 3, 4, 5)}), {"x": floats(2, 3, 4, 5)})


def test_integer_division_rounds_towards_zero():
    graph = helper.make_graph(
        [node("Div", "x d")],
        "ints",
        [helper.make_tensor_value_info("x", TensorProto.INT64, [4])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [4])],
        [numpy_helper.from_array(np.array([2], np.int64), "d")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    agree(made, {"x": np.array([-3, -1, 1, 3])})


def flattened(batch_index: int):
    """Flattens everything behind the batch, with the batch read off the input's shape."""
    return model(
        [
            node("Shape", "x", "shape"),
            node("Gather", "shape zero", "batch", axis=0),
            node("Unsqueeze", "batch at", "batch1"),
            node("Concat", "batch1 minus", "target", axis=0),
            node("Reshape", "x target"),
        ],
        {"x": ("N", 3, 4, 5)},
        {"zero": np.array(batch_index), "at": np.array([0]), "minus": np.array([-1])},
    )


def test_shape_arithmetic_follows_the_batch():
    for batch in (1, 3):
        agree(flattened(0), {"x": floats(batch, 3, 4, 5)})


def test_shape_arithmetic_agrees_with_the_runtime_op_by_op():
    ints = {"i": np.array([1, 0]), "two": np.array([2]), "minus": np.array([-1]), "far": np.array([-99])}
    ints |= {"zero": np.array([0]), "grid": np.array([2, 2]), "half": np.array([0.5], np.float32)}
    nodes = [
        node("Shape", "x", "shape"),  # N 3 4 5
        node("Slice", "shape minus far zero minus", "reversed"),
        node("Reshape", "reversed grid", "square"),
        node("Transpose", "square", "turned", perm=[1, 0]),
        node("Flatten", "turned", "row", axis=0),
        node("Squeeze", "row zero", "flat"),
        node("Split", "flat", "low high", axis=0),
        node("Mul", "low high", "product"),
        node("Div", "product two", "quotient"),
        node("Sub", "quotient low", "less"),
        node("Cast", "less", "real", to=TensorProto.FLOAT),
        node("Mul", "real half", "halved"),
        node("Floor", "halved", "floor"),
        node("Cast", "floor", "whole", to=TensorProto.INT64),
        node("Max", "whole two", "most"),
        node("Tile", "most two", "tiled"),
        node("ConstantOfShape", "two", "ones", value=numpy_helper.from_array(np.array([1]))),
        node("Concat", "tiled ones reversed", "all", axis=0),
        node("Equal", "all two", "equal"),
        node("Where", "equal minus all", "chosen"),
        node("ReduceProd", "chosen", "number", keepdims=1),
        node("Expand", "number grid", "spread"),
        node("Identity", "spread", "same"),
        node("Cast", "same", "y", to=TensorProto.FLOAT),
    ]
    agree(model(nodes, {"x": ("N", 3, 4, 5)}, ints, outputs=("y", "chosen")), {"x": floats(2, 3, 4, 5)})


def test_unknown_ops_are_refused_by_name():
    made = model([node("Relu", "x", "r"), node("RandomNormalLike", "r")], {"x": (2, 3)})
    with pytest.raises(BadInput, match=r"node RandomNormalLike_y \(Random.*without gradients"):
        OnnxModule(made)


def test_foreign_domains_are_refused():
    made = model([node("Relu", "x")], {"x": (2, 3)})
    made.graph.node[0].domain = "com.example"
    with pytest.raises(BadInput, match=r"domain com\.example"):
        OnnxModule(made)


def test_attributes_that_no_rule_reads_are_refused():
    made = model([node("Relu", "x")], {"x": (2, 3)})
    made.graph.node[0].attribute.append(helper.make_attribute("slope", 0.1))
    with pytest.raises(BadInput, match="attribute slope is unknown"):
        OnnxModule(made)


def test_inputs_of_a_type_torch_lacks_are_refused_with_their_reader():
    made = model([node("Relu", "x")], {"x": (2, 3)})
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT32
    with pytest.raises(BadInput, match=r"Input x of node Relu_y has element type UINT32.*--criterion l2"):
        OnnxModule(made)


def test_versions_of_an_operator_that_no_rule_reads_are_refused():
    made = model([node("Relu", "x")], {"x": (2, 3)})
    made.graph.node[0].op_type = "Scan"
    made.opset_import[0].version = 8
    with pytest.raises(BadInput, match=r"Scan, opset 8.*its rule reads opset 9 to 28"):
        OnnxModule(made)


def test_what_is_supported_is_read_off_the_rules():
    found = {(entry.domain, entry.op): entry for entry in supported()}
    assert found["", "Split"].versions == (2, 11, 13, 18)
    assert found["", "Conv"].differentiable
    assert not found["", "ArgMax"].differentiable
    assert found["", "QuantizeLinear"].gradient == "straight-through"
    assert found["com.microsoft", "FusedConv"].versions == (1,)
