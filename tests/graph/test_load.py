"""Bad input: one clear line each, and never another error."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pipeline.graph.couple import couple
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.model import from_proto, load, save
from targets.errors import BadInput
from tests.fuzz.hostile import FILES as HOSTILE_FILES
from tests.graph.small import ints, proto

IMAGE = "float[1,3,4,4] x"


def sound(inputs: str = IMAGE) -> onnx.ModelProto:
    model = proto(inputs, "a = Conv(x, w) y = Relu(a)", w=(2, 3, 1, 1))
    for name in ("n", "c", "h", "w"):  # a file must declare its outputs' ranks
        model.graph.output[0].type.tensor_type.shape.dim.add(dim_param=name)
    return model


def written(change: Callable[[onnx.ModelProto], object]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        model = sound()
        change(model)
        path.write_bytes(model.SerializeToString())

    return write


def truncated(path: Path) -> None:
    data = sound().SerializeToString()
    path.write_bytes(data[: len(data) // 2])


def cyclic(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "y"


def doubled(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = "a"


def missing_weight(model: onnx.ModelProto) -> None:
    del model.graph.initializer[:]


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


def outside(model: onnx.ModelProto) -> None:
    external(model)
    model.graph.initializer[0].external_data[0].value = "../../../etc/hostname"


def short_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]


def unknown_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 65


def huge_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 2**40


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "does not exist"),
    "directory": (Path.mkdir, "is a directory"),
    "empty": (Path.touch, "is empty"),
    "truncated": (truncated, "is not an ONNX model, or was cut short"),
    "text": (lambda path: path.write_text("hello, I am a text file\n" * 20), "is not an ONNX model"),
    "bytes that parse": (lambda path: path.write_bytes(b"\x08\x07"), "holds no graph"),
    "cycle": (written(cyclic), "is not a valid ONNX model"),
    "name made twice": (written(doubled), "is not a valid ONNX model"),
    "missing weight": (written(missing_weight), "is not a valid ONNX model"),
    "missing external data": (written(external), "is missing"),
    "external data elsewhere": (written(outside), "names no file in the model's folder"),
    "weight too short": (written(short_weight), "is not a valid ONNX model"),
    "unknown type": (written(unknown_type), "is not a valid ONNX model"),
    "huge input": (written(huge_input), "the model is broken"),
}


@pytest.mark.parametrize("case", FILES)
def test_bad_file_is_answered_in_one_clear_line(case, tmp_path) -> None:
    write, message = FILES[case]
    path = tmp_path / "model.onnx"
    write(path)
    with pytest.raises(BadInput, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "shapes", "message"),
    [
        ("float[n,3,h,4] x", {}, r"leaves h \(axis 2\) open.*--shape x=1,3,224,4"),
        (IMAGE, {"x": (1, 3, 5, 4)}, "does not fit input 'x', which is declared as 1,3,4,4"),
        (IMAGE, {"x": (1, 3, 4)}, "does not fit"),
        (IMAGE, {"z": (1,)}, "No input is called 'z'"),
        ("float[n,3,h,4] x", {"x": (1, 3, 0, 4)}, "does not fit"),
    ],
)
def test_wrong_shape_is_answered_in_one_clear_line(inputs, shapes, message) -> None:
    with pytest.raises(BadInput, match=message):
        from_proto(sound(inputs=inputs), shapes)


def test_shapes_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(BadInput, match="contradict each other at x=1,3,4,4"):
        from_proto(proto(IMAGE, "y = Add(x, k)", k=(1, 3, 5, 4)))


def test_sequence_as_input_is_refused() -> None:
    model = sound()
    model.graph.input.append(
        helper.make_value_info("s", helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, (1,))))
    )
    with pytest.raises(BadInput, match="no plain tensor"):
        from_proto(model)


def test_free_batch_becomes_one_and_a_saved_model_loads_again(tmp_path) -> None:
    model = from_proto(sound(inputs="float[n,3,4,4] x"))
    assert model.shapes["y"] == (1, 2, 4, 4)
    save(model, tmp_path / "deep" / "model.onnx")
    again = load(tmp_path / "deep" / "model.onnx")
    assert again.proto.graph == model.proto.graph
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model.onnx"]


def test_external_data_beside_the_model_is_read(tmp_path) -> None:
    onnx.save_model(sound(), tmp_path / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    (weight,) = load(tmp_path / "m.onnx").proto.graph.initializer
    assert np.prod(weight.dims) * 4 == len(weight.raw_data)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("data at an absolute path", "names no file in the model's folder"),
        ("data above, through a folder", "names no file in the model's folder"),
        ("data at an empty location", "names no file in the model's folder"),
        ("data through a link outside", "leaves the model's folder through the link"),
        ("data through a folder outside", "leaves the model's folder through the link"),
        ("data is a folder", "is no regular file"),
        ("data is a pipe", "is no regular file"),
        ("data is a device", "leaves the model's folder"),
        ("data from a negative byte", "should be 1152 bytes"),
        ("data from beyond the end", "should be 1152 bytes"),
        ("data that is too long", "should be 1152 bytes"),
        ("data that a thousand tensors share", "the model is broken"),
        ("file is a pipe", "is no regular file"),
        ("file is a device", "is no regular file"),
    ],
)
def test_only_files_in_the_models_folder_are_read_and_only_to_the_byte(case, message, tmp_path) -> None:
    path = tmp_path / "inner" / "model.onnx"
    path.parent.mkdir()
    HOSTILE_FILES[case](path)
    with pytest.raises(BadInput, match=message):
        load(path)


@pytest.mark.parametrize(
    "case", ["data in a folder below", "data through a link inside", "data without numbers", "data that overlaps"]
)
def test_data_inside_the_models_folder_is_read(case, tmp_path) -> None:
    path = tmp_path / "inner" / "model.onnx"
    path.parent.mkdir()
    HOSTILE_FILES[case](path)
    assert all(tensor.raw_data for tensor in load(path).proto.graph.initializer)


# What fuzzing found.

IMAGES = "float[1,4,6,6] x"
HUGE = ints(1, 4, 2**31, 2**31)


def computes_the_same(model: onnx.ModelProto) -> bool:
    plain = from_proto(model)
    couple(plain)
    feeds = {"x": np.random.default_rng(0).standard_normal(plain.bound["x"]).astype(np.float32)}
    ours, theirs = run_unoptimised(plain.proto, feeds), run_unoptimised(model, feeds)
    return all(np.allclose(ours[name], theirs[name], atol=1e-5) for name in theirs)


@pytest.mark.parametrize(
    "maker",
    [
        "ConstantOfShape(huge)",
        "Expand(one, huge)",
        "Tile(four, huge)",
        "Pad(four, corners)",
        'Resize<mode = "nearest">(four, "", "", huge)',
    ],
)
def test_constant_that_fits_no_memory_is_refused_without_being_made(maker) -> None:
    body = f"k = {maker} m = ReduceMax<keepdims = 0>(k) y = Add(x, m)"
    constants: dict[str, Any] = {
        "huge": HUGE,
        "one": np.ones(1, np.float32),
        "four": (1, 1, 2, 2),
        "corners": ints(*[2**20] * 8),
    }
    with pytest.raises(BadInput, match=r"the model is broken|do not fit|contradict"):
        from_proto(proto(IMAGES, body, **constants))


def test_constant_that_is_only_large_stays_computed() -> None:
    model = proto(IMAGES, "k = ConstantOfShape(s) m = ReduceMax<keepdims = 0>(k) y = Add(x, m)", s=ints(3000, 3000))
    assert "ConstantOfShape" in [node.op_type for node in from_proto(model).proto.graph.node]
    assert computes_the_same(model)


def test_range_of_more_numbers_than_memory_is_refused_before_inference_writes_them_out() -> None:
    body = "k = Range(zero, end, one) f = Cast<to = 1>(k) m = ReduceMax<keepdims = 0>(f) y = Add(x, m)"
    with pytest.raises(BadInput, match=r"would make 4.61169e\+18 numbers"):
        from_proto(proto(IMAGES, body, zero=np.asarray(0), end=np.asarray(2**62), one=np.asarray(1)))


def test_range_of_a_hundred_thousand_numbers_is_right() -> None:
    body = "k = Range(zero, end, one) f = Cast<to = 1>(k) m = ReduceMax<keepdims = 0>(f) y = Add(x, m)"
    assert computes_the_same(proto(IMAGES, body, zero=np.asarray(0), end=np.asarray(100_000), one=np.asarray(1)))


def test_sequence_along_an_axis_there_is_not_stays_as_it_is() -> None:
    body = "q = SplitToSequence<axis = 1>(one, two) a = SequenceAt(q, zero) y = Add(x, a)"
    model = proto(IMAGES, body, one=np.asarray(1), two=np.asarray(2), zero=np.asarray(0))
    with pytest.raises(BadInput):
        from_proto(model)


def test_sequence_of_more_parts_than_a_split_may_name_stays_a_sequence() -> None:
    body = "q = SplitToSequence<axis = 2>(x, one) a = SequenceAt(q, zero) y = Relu(a)"
    model = proto("float[1,1,50000] x", body, one=np.asarray(1), zero=np.asarray(0))
    assert "SplitToSequence" in [node.op_type for node in from_proto(model).proto.graph.node]


def test_sequence_whose_sizes_do_not_add_up_is_refused() -> None:
    body = "q = SplitToSequence<axis = 1>(x, sizes) a = SequenceAt(q, zero) y = Relu(a)"
    with pytest.raises(BadInput, match=r"contradict each other.*SplitToSequence"):
        from_proto(proto(IMAGES, body, sizes=ints(2, 3), zero=np.asarray(0)))


def test_convolution_with_a_weight_of_another_rank_is_locked() -> None:
    model = from_proto(proto(IMAGES, "a = Conv(x, v) b = Conv(a, w) y = Relu(b)", v=(4, 4, 1, 1), w=(4, 4, 1, 1)))
    (weight,) = (tensor for tensor in model.proto.graph.initializer if tensor.name == "w")
    weight.CopyFrom(onnx.numpy_helper.from_array(np.ones(4, np.float32), "w"))
    broken = type(model)(model.proto, model.bound, {**model.shapes, "w": (4,)})
    assert any("weight of another rank" in str(group.locked_because) for group in couple(broken).groups)


@pytest.mark.parametrize("operator", ["DepthToSpace", "SpaceToDepth"])
def test_blocks_into_which_a_tensor_does_not_divide_are_locked(operator) -> None:
    model = from_proto(proto(IMAGES, f"a = Conv(x, w) b = {operator}<blocksize = 4>(a) y = Relu(b)", w=(24, 4, 1, 1)))
    assert all("does not divide" in str(group.locked_because) for group in couple(model).groups)


def test_axis_too_long_to_label_is_locked() -> None:
    body = "a = Conv(x, w) b = Pad(a, amounts) y = Relu(b)"
    model = from_proto(proto(IMAGES, body, w=(6, 4, 1, 1), amounts=ints(0, 2**24, 0, 0, 0, 0, 0, 0)))
    (group,) = couple(model).groups
    assert "too long to follow" in str(group.locked_because)


def test_reshape_target_of_two_axes_is_left_to_the_runtime() -> None:
    target = np.asarray([[1, 1], [12, 12]], np.int64)
    model = proto(IMAGES, "y = Reshape(x, t)", t=target)
    assert [node.op_type for node in from_proto(model).proto.graph.node] == ["Reshape"]


def two_functions(version: int) -> onnx.ModelProto:
    model = proto("float[1,4,6,6] x", "a = own.outer(x) y = Conv(a, w)", w=(4, 4, 1, 1))
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("own", version)]
    for name, call, domain in (("outer", "inner", "own"), ("inner", "Relu", "")):
        node = helper.make_node(call, ["in"], ["out"], domain=domain)
        model.functions.append(helper.make_function("own", name, ["in"], ["out"], [node], imports))
    return model


@pytest.mark.parametrize("version", [1, 21])
def test_functions_are_written_out_whatever_version_their_own_domain_has(version) -> None:
    plain = from_proto(two_functions(version)).proto
    assert [node.op_type for node in plain.graph.node] == ["Relu", "Conv"]
    assert not plain.functions


def test_call_with_more_inputs_than_its_function_has_is_refused() -> None:
    model = two_functions(1)
    model.graph.node[0].input.append("x")
    with pytest.raises(BadInput, match="functions cannot be written out"):
        from_proto(model)


def test_functions_that_call_each_other_in_a_circle_are_refused() -> None:
    model = two_functions(1)
    model.functions[1].node[0].op_type, model.functions[1].node[0].domain = "outer", "own"
    with pytest.raises(BadInput, match="calls itself"):
        from_proto(model)


def test_functions_that_double_sixty_times_are_refused_without_being_written_out() -> None:
    model = two_functions(1)
    del model.functions[:]
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    for level in range(60):
        call: dict[str, Any] = {"op_type": f"f{level + 1}", "domain": "own"} if level < 59 else {"op_type": "Relu"}
        steps = [
            onnx.NodeProto(input=["in"], output=["t"], **call),
            onnx.NodeProto(input=["t"], output=["out"], **call),
        ]
        model.functions.append(helper.make_function("own", f"f{level}", ["in"], ["out"], steps, imports))
    model.graph.node[0].op_type = "f0"
    with pytest.raises(BadInput, match="over 1000000 nodes"):
        from_proto(model)


def test_weight_that_a_thousand_nodes_read_is_refused_without_a_thousand_copies() -> None:
    nodes = " ".join(f"b{number} = Add(x, k)" for number in range(400))
    ends = ", ".join(f"b{number}" for number in range(400))
    with pytest.raises(BadInput, match="is read so often"):
        from_proto(proto("float[1,1,1,1] x", f"{nodes} y = Max({ends})", k=np.zeros((1, 1, 1024, 1024), np.float32)))


def test_sparse_weight_is_written_out() -> None:
    model = sound()
    dense = np.zeros((2, 3, 1, 1), np.float32)
    dense.reshape(-1)[[1, 4]] = (2.0, 3.0)
    values = helper.make_tensor("w", TensorProto.FLOAT, (2,), [2.0, 3.0])
    indices = helper.make_tensor("", TensorProto.INT64, (2,), [1, 4])
    del model.graph.initializer[:]
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2, 3, 1, 1]))
    (weight,) = from_proto(model).proto.graph.initializer
    assert np.array_equal(onnx.numpy_helper.to_array(weight), dense)
    model.graph.sparse_initializer[0].dims[0] = 2**40
    with pytest.raises(BadInput, match="too large to be written out"):
        from_proto(model)


def no_constant(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("Constant", [], ["k"]))
    model.graph.node.append(helper.make_node("Add", ["y", "k"], ["z"]))
    model.graph.output[0].name = "z"


def long_name(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "h" * 100_000


CHANGES: dict[str, tuple[Callable[[onnx.ModelProto], object], str]] = {
    "no outputs": (lambda model: model.graph.output.__delitem__(0), "has no outputs"),
    "two versions of one domain": (lambda model: model.opset_import.add(version=9), "imports versions 18 and 9"),
    "opset of the future": (lambda model: setattr(model.opset_import[0], "version", 9999), "speaks opset 9999"),
    "Constant without a value": (no_constant, "contradict each other.*Constant_k"),
    "weight twice": (lambda m: m.graph.initializer.append(m.graph.initializer[0]), "several are called 'w'"),
    "dimension with a long name": (long_name, "leaves hhhh"),
    "operator named in control characters": (
        lambda model: setattr(model.graph.node[0], "op_type", "\x02\x1b[31m"), "not a valid ONNX model"
    ),
    "attribute that refers to a function's": (
        lambda model: model.graph.node[0].attribute.add(name="group", type=2, ref_attr_name="g"), "refers to one of a"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_file_with_this_is_answered_in_one_printable_line(case, tmp_path) -> None:
    change, message = CHANGES[case]
    written(change)(tmp_path / "model.onnx")
    with pytest.raises(BadInput, match=message) as caught:
        load(tmp_path / "model.onnx")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 1000


def test_output_without_a_declared_shape_is_no_reason_to_refuse(tmp_path) -> None:
    written(lambda model: model.graph.output[0].type.tensor_type.ClearField("shape"))(tmp_path / "model.onnx")
    assert load(tmp_path / "model.onnx").shapes["y"] == (1, 2, 4, 4)


def test_position_table_resized_in_the_graph_is_folded() -> None:
    body = 'k = Resize<mode = "cubic">(table, "", "", s) y = Add(x, k)'
    model = proto("float[1,64,16,16] x", body, table=(1, 64, 14, 14), s=ints(1, 64, 16, 16))
    assert [node.op_type for node in from_proto(model).proto.graph.node] == ["Add"]
    assert computes_the_same(model)


@pytest.mark.parametrize("body", ["a = Cast<to = 1>(x)", "b = Cast<to = 6>(x) a = Cast<to = 1>(b)"])
def test_list_of_a_billion_integers_is_not_written_out_by_inference(body) -> None:
    model = from_proto(proto("int64[1000000000] x", f"{body} y = Relu(a)"))
    assert model.shapes["y"] == (1_000_000_000,)


def test_input_of_a_type_that_its_operator_does_not_take_is_refused() -> None:
    """Inference node by node, which an open shape leads to, says so by an error of its own."""
    with pytest.raises(BadInput, match="contradict each other"):
        from_proto(proto(IMAGES, "h = Reshape(x, t) y = Pad(amounts, h)", t=ints(1, 144), amounts=ints(0, 1)))


def test_cast_to_a_type_there_is_not_is_no_other_error() -> None:
    model = proto(IMAGES, "a = Cast<to = 255>(k) b = Cast<to = 1>(a) y = Add(x, b)", k=np.asarray(1.0, np.float32))
    with pytest.raises(BadInput):
        from_proto(model)


def test_constants_that_double_with_every_node_are_not_folded_for_ever() -> None:
    steps = " ".join(f"t{number + 1} = Concat<axis = 1>(t{number}, t{number})" for number in range(29))
    model = from_proto(proto(IMAGES, f"{steps} m = ReduceMax<keepdims = 0>(t29) y = Add(x, m)", t0=(1, 2)))
    assert "Concat" in [node.op_type for node in model.proto.graph.node]
    assert sum(len(tensor.raw_data) for tensor in model.proto.graph.initializer) < 10 * 2**22
