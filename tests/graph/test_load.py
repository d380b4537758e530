"""Bad input: one clear line each, and never another error."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pipeline.graph.model import from_proto, load, save
from targets.errors import BadInput
from tests.graph.small import proto

IMAGE = "float[1,3,4,4] x"


def sound(inputs: str = IMAGE) -> onnx.ModelProto:
    model = proto(inputs, "a = Conv(x, w) y = Relu(a)", w=(2, 3, 1, 1))
    for name in ("n", "c", "h", "w"):  # a file must declare its outputs' ranks
        model.graph.output[0].type.tensor_type.shape.dim.add(dim_param=name)
    return model


def written(change: Callable[[onnx.ModelProto], None]) -> Callable[[Path], None]:
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
