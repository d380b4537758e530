"""OnnxModule: parameters and buffers, modes, taps, memory formats, and the way back to ONNX."""

import copy

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from pipeline.autograd import OnnxModule
from pipeline.autograd.names import escape, unescape
from targets.errors import BadInput
from tests.autograd.graphs import by_runtime, by_torch, floats, model, node


def network() -> onnx.ModelProto:
    """Conv, batch-norm, slope, dropout, and a Gemm on the spatial mean, with names as exporters give them."""
    weights = {
        "conv.weight": floats(4, 3, 3, 3),
        "conv.bias": floats(4, seed=1),
        "bn.weight": np.abs(floats(4, seed=2)) + 0.5,
        "bn.bias": floats(4, seed=3),
        "bn.running_mean": floats(4, seed=4),
        "bn.running_var": np.abs(floats(4, seed=5)) + 0.5,
        "slope": floats(4, 1, 1, seed=6),
        "forward": floats(4, 1, 1, seed=7),
        "half": np.array(0.5, np.float32),
        "fc.weight": floats(2, 4, seed=8),
        "fc.bias": floats(2, seed=9),
        "rate": np.array(0.5, np.float32),
    }
    nodes = [
        node("Conv", "image conv.weight conv.bias", "c", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "c bn.weight bn.bias bn.running_mean bn.running_var", "n", momentum=0.8),
        node("PRelu", "n slope", "p"),
        node("Add", "p forward", "a"),
        node("Mul", "a half", "m"),
        node("Dropout", "m rate", "d"),
        node("GlobalAveragePool", "d", "g"),
        node("Flatten", "g", "f"),
        node("Gemm", "f fc.weight fc.bias", "y", transB=1),
    ]
    return model(nodes, {"image": ("N", 3, 6, 6)}, weights)


IMAGES = {"image": floats(5, 3, 6, 6, seed=10)}


def test_weights_affines_and_slopes_are_parameters_and_the_rest_are_buffers():
    module = OnnxModule(network())
    assert {unescape(name) for name, _ in module.named_parameters()} == {
        "conv.weight", "conv.bias", "bn.weight", "bn.bias", "slope", "forward", "fc.weight", "fc.bias",
    }  # fmt: skip
    assert {unescape(name) for name, _ in module.named_buffers()} == {"bn.running_mean", "bn.running_var", "half"}


def test_weights_behind_a_computation_are_parameters():
    nodes = [
        node("ReduceMean", "w", "mean", axes=[1, 2, 3], keepdims=1),
        node("Sub", "w mean", "centred"),
        node("Transpose", "turned", "b", perm=[0]),
        node("Conv", "x centred b"),
    ]
    made = model(nodes, {"x": ("N", 3, 5, 5)}, {"w": floats(4, 3, 3, 3), "turned": floats(4)})
    module = OnnxModule(made)
    assert {name for name, _ in module.named_parameters()} == {"w", "turned"}
    np.testing.assert_allclose(
        by_torch(module, {"x": floats(1, 3, 5, 5)})[0], by_runtime(made, {"x": floats(1, 3, 5, 5)})[0], atol=1e-4
    )


def test_outputs_equal_the_runtimes_for_any_batch():
    module = OnnxModule(network())
    for images in (IMAGES["image"], IMAGES["image"][:1]):
        theirs = by_runtime(network(), {"image": images})[0]
        np.testing.assert_allclose(by_torch(module, {"image": images})[0], theirs, rtol=1e-4, atol=1e-5)


def test_constant_nodes_serve_as_initialisers():
    made = network()
    weight = next(tensor for tensor in made.graph.initializer if tensor.name == "conv.weight")
    made.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["conv.weight"], value=weight))
    made.graph.initializer.remove(weight)
    module = OnnxModule(made)
    np.testing.assert_allclose(by_torch(module, IMAGES)[0], by_torch(OnnxModule(network()), IMAGES)[0])
    with torch.no_grad():
        module.get_tensor("conv.weight").mul_(2)
    written = module.to_onnx().graph.node[0].attribute[0].t
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(written), 2 * onnx.numpy_helper.to_array(weight))


@pytest.mark.parametrize("name", ["a.b", "a%2Eb", "training", "forward", "weight", "ä.b", "%", "onnx::Conv_193"])
def test_names_find_their_way_back(name):
    escaped = escape(name, {"training", "forward"})
    assert "." not in escaped
    assert escaped not in {"training", "forward"}
    assert unescape(escaped) == name


def test_an_untouched_module_writes_every_byte_back():
    made = network()
    assert OnnxModule(made).to_onnx().SerializeToString(deterministic=True) == made.SerializeToString(
        deterministic=True
    )


def test_initialisers_stored_as_repeated_floats_are_kept_as_they_are():
    made = network()
    made.graph.initializer.append(onnx.helper.make_tensor("unused", onnx.TensorProto.FLOAT, [2], [0.1, 0.2]))
    bias = next(tensor for tensor in made.graph.initializer if tensor.name == "fc.bias")
    bias.CopyFrom(onnx.helper.make_tensor("fc.bias", onnx.TensorProto.FLOAT, [2], [0.1, 0.2]))
    assert OnnxModule(made).to_onnx().graph == made.graph


def test_training_is_written_back_by_name_and_only_where_it_changed_something():
    module = OnnxModule(network()).train()
    optimiser = torch.optim.SGD([module.get_tensor("fc.weight")], lr=0.1)
    module(torch.from_numpy(IMAGES["image"])).square().sum().backward()
    optimiser.step()
    module.eval()
    written = module.to_onnx()
    before = {tensor.name: tensor.SerializeToString() for tensor in network().graph.initializer}
    changed = {tensor.name for tensor in written.graph.initializer if tensor.SerializeToString() != before[tensor.name]}
    assert changed == {"fc.weight", "bn.running_mean", "bn.running_var"}
    np.testing.assert_allclose(by_runtime(written, IMAGES)[0], by_torch(module, IMAGES)[0], rtol=1e-4, atol=1e-5)


def test_half_precision_initialisers_come_back_in_their_own_type():
    made = model([node("MatMul", "x w")], {"x": (2, 3)}, {"w": floats(3, 4)})
    made.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for tensor in made.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(floats(3, 4).astype(np.float16), tensor.name))
    module = OnnxModule(made).float()
    with torch.no_grad():
        module.get_tensor("w").add_(1)
    written = onnx.numpy_helper.to_array(module.to_onnx().graph.initializer[0])
    assert written.dtype == np.float16
    np.testing.assert_allclose(written, floats(3, 4) + 1, atol=2e-3)


def test_the_model_given_is_not_changed():
    made = network()
    before = made.SerializeToString(deterministic=True)
    module = OnnxModule(made).train()
    module(torch.from_numpy(IMAGES["image"]))
    assert made.SerializeToString(deterministic=True) == before


def norm_alone(momentum: float = 0.8) -> onnx.ModelProto:
    affine = {"g": floats(4) + 2, "b": floats(4, seed=1), "m": floats(4, seed=2), "v": np.abs(floats(4, seed=3)) + 1}
    norm = node("BatchNormalization", "x g b m v", momentum=momentum, epsilon=1e-3)
    return model([norm], {"x": ("N", 4, 3, 3)}, affine)


def test_batch_norm_trains_as_torchs_own_does():
    module = OnnxModule(norm_alone()).train()
    theirs = nn.BatchNorm2d(4, eps=1e-3, momentum=0.2)  # ONNX writes the share of the old value
    names = {"weight": "g", "bias": "b", "running_mean": "m", "running_var": "v"}
    theirs.load_state_dict({torchs: module.get_tensor(name) for torchs, name in names.items()}, strict=False)
    for seed in range(3):
        x = torch.from_numpy(floats(5, 4, 3, 3, seed=seed))
        torch.testing.assert_close(module(x), theirs(x))
    torch.testing.assert_close(module.get_tensor("m"), theirs.running_mean)
    torch.testing.assert_close(module.get_tensor("v"), theirs.running_var)
    module.eval()
    theirs.eval()
    torch.testing.assert_close(module(x), theirs(x))


def test_one_momentum_for_all_norms_overrides_the_graphs():
    module = OnnxModule(norm_alone()).train()
    module.momentum = 1.0
    x = torch.from_numpy(floats(5, 4, 3, 3))
    module(x)
    ((mean, variance),) = module.statistics()
    torch.testing.assert_close(mean, x.mean((0, 2, 3)))
    torch.testing.assert_close(variance, x.var((0, 2, 3)))
    assert mean is module.get_tensor("m")


def test_eval_changes_no_statistics():
    module = OnnxModule(norm_alone())
    before = copy.deepcopy(module.state_dict())
    module(torch.from_numpy(floats(5, 4, 3, 3)))
    assert all(torch.equal(module.state_dict()[name], value) for name, value in before.items())


def test_statistics_that_are_weights_too_are_refused():
    made = model([node("BatchNormalization", "x g b b v")], {"x": ("N", 2, 3)}, dict.fromkeys("gbv", np.ones(2, "f4")))
    with pytest.raises(BadInput, match="own copy"):
        OnnxModule(made)


def test_dropout_obeys_train_and_eval():
    made = model([node("Dropout", "x")], {"x": ("N", 100)})
    module, x = OnnxModule(made), torch.ones(10, 100)
    torch.testing.assert_close(module(x), x)
    torch.manual_seed(0)
    dropped = module.train()(x)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}


def test_a_tap_changes_what_one_reader_sees():
    nodes = [node("Relu", "x", "r"), node("Neg", "r", "a"), node("Abs", "r", "b")]
    module = OnnxModule(model(nodes, {"x": (2, 3)}, outputs=("a", "b")))
    x = torch.from_numpy(floats(2, 3)).abs()
    with module.tap({("Neg_a", 0): lambda z: z * 0}):
        negated, absolute = module(x)
    torch.testing.assert_close(negated, torch.zeros(2, 3))
    torch.testing.assert_close(absolute, x)
    torch.testing.assert_close(module(x)[0], -x)


def test_taps_pass_gradients():
    module = OnnxModule(network()).requires_grad_(False)
    gates = torch.ones(1, 4, requires_grad=True)
    with module.tap({("Gemm_y", 0): lambda z: z * gates}):
        module(torch.from_numpy(IMAGES["image"])).sum().backward()
    assert gates.grad is not None
    assert gates.grad.abs().min() > 0


@pytest.mark.parametrize("at", [("Gemm_y", 7), ("nowhere", 0), ("Dropout_d", 1)])
def test_taps_where_no_activation_is_are_refused(at):
    with pytest.raises(BadInput, match="no activation"), OnnxModule(network()).tap({at: lambda z: z}):
        pass


def test_two_taps_at_one_place_are_refused_and_the_first_stays():
    module = OnnxModule(network())
    with module.tap({("Gemm_y", 0): lambda z: z * 0}):
        with pytest.raises(BadInput, match="tapped already"), module.tap({("Gemm_y", 0): lambda z: z}):
            pass
        torch.testing.assert_close(module(torch.from_numpy(IMAGES["image"])), module.get_tensor("fc.bias").expand(5, 2))


def test_inputs_go_by_order_or_by_name():
    module = OnnxModule(model([node("Sub", "x.1 z")], {"x.1": (2,), "z": (2,)}))
    x, z = torch.tensor([3.0, 4.0]), torch.tensor([1.0, 1.0])
    torch.testing.assert_close(module(x, z), x - z)
    torch.testing.assert_close(module(**{"z": z, "x.1": x}), x - z)
    for wrong in ({"z": z}, {"z": z, "x.1": x, "w": x}):
        with pytest.raises(BadInput, match=r"x\.1, z"):
            module(**wrong)
    with pytest.raises(BadInput, match="exactly once"):
        module(x, z, x)


def channels_last(module: OnnxModule) -> OnnxModule:
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # torch's stubs


def test_channels_last_and_bfloat16_compute_the_same_within_their_precision():
    module = OnnxModule(network())
    x = torch.from_numpy(IMAGES["image"])
    plain = module(x)
    last = channels_last(module)
    torch.testing.assert_close(last(x.to(memory_format=torch.channels_last)), plain, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        short = last.train()(x.to(memory_format=torch.channels_last))
        short.float().square().sum().backward()
        short = last.eval()(x)
    assert short.dtype == torch.bfloat16
    assert last.get_tensor("conv.weight").grad is not None
    assert last.to_onnx().graph.initializer[0].name == "conv.weight"


def test_channels_last_weights_are_written_back_in_their_own_order():
    made = network()
    module = channels_last(OnnxModule(made))
    assert module.to_onnx().SerializeToString(deterministic=True) == made.SerializeToString(deterministic=True)


def test_a_copy_is_independent():
    module = OnnxModule(network())
    twin = copy.deepcopy(module)
    with torch.no_grad():
        twin.get_tensor("fc.bias").add_(1)
    x = torch.from_numpy(IMAGES["image"])
    torch.testing.assert_close(twin(x), module(x) + 1)


def test_compiled_and_exported_modules_compute_the_same_without_a_graph_break():
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "batch", axis=0),
        node("Concat", "batch minus", "target", axis=0),
        node("Relu", "x", "r"),
        node("Reshape", "r target", "flat"),
        node("Gemm", "flat w.1", "y"),
    ]
    ints = {"zero": np.array([0]), "minus": np.array([-1]), "w.1": floats(12, 2)}
    module = OnnxModule(model(nodes, {"x": ("N", 3, 4)}, ints))
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    x = torch.from_numpy(floats(5, 3, 4))
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), module(x))
    batch = torch.export.Dim("batch", max=64)
    exported = torch.export.export(module, (x,), dynamic_shapes=(({0: batch},),)).module()
    torch.testing.assert_close(exported(x[:2]), module(x[:2]))


@pytest.mark.parametrize(
    ("nodes", "shape"),
    [
        ([node("Conv", "x w", pads=[0, 1, 1, 0], strides=[2, 1])], (2, 3, 5, 5)),
        ([node("AveragePool", "x", kernel_shape=[2, 2], pads=[0, 1, 1, 0])], (1, 2, 4, 4)),
        ([node("Resize", "x _ s", mode="linear", coordinate_transformation_mode="asymmetric")], (1, 2, 3, 4)),
        ([node("Pad", "x p", mode="reflect")], (1, 2, 3, 4)),
        ([node("HardSwish", "x", "h"), node("Softmax", "h", axis=1)], (2, 3)),
        ([node("LRN", "x", size=3)], (1, 4, 2, 2)),
        ([node("Gather", "x i", axis=1)], (2, 4)),
        ([node("ReduceL2", "x", axes=[1])], (2, 4)),
    ],
)
def test_gradients_are_those_of_the_function(nodes, shape):
    constants = {
        "w": floats(4, 3, 3, 3),
        "s": np.array([1, 1, 2, 1.5], np.float32),
        "p": np.array([0, 0, 1, 1, 0, 0, 2, 0]),
        "i": np.array([3, 0, 0]),
    }
    used = {name: array for name, array in constants.items() if name in nodes[0].input}
    module = OnnxModule(model(nodes, {"x": shape}, used)).double()
    x = torch.from_numpy(floats(*shape)).double().requires_grad_()
    assert torch.autograd.gradcheck(module, (x,))


def test_computing_a_weight_of_a_type_torch_lacks_is_refused_by_name():
    nodes = [node("Cast", "w", "c", to=onnx.TensorProto.FLOAT), node("Add", "x c")]
    made = model(nodes, {"x": (2,)}, {"w": np.ones(2, np.uint32)})
    with pytest.raises(BadInput, match="Tensor w has element type uint32"):
        OnnxModule(made)
