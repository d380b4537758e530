"""Models made to fit what a runtime reads."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from targets.errors import BadInput, TargetError
from targets.fitting import fitted, inputs_of
from targets.runtimes import Reads
from tests.targets.models import elementwise, saved


def one_node(op: str, opset: int, path: Path, ir: int = 8) -> Path:
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"], "the-node")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir), path)
    return path


def test_what_the_runtime_reads_travels_as_it_is(tmp_path: Path) -> None:
    path = one_node("Relu", 17, tmp_path / "m.onnx")
    assert fitted(path, Reads(17, 8), "abacus", None, tmp_path) == path


@pytest.mark.parametrize("reads", [Reads(13, 8), Reads(18, 7), Reads(13, 7)])
def test_newer_opsets_and_formats_are_converted_and_compute_the_same(tmp_path: Path, reads: Reads) -> None:
    path = one_node("Softmax", 18, tmp_path / "m.onnx")
    (tmp_path / "older").mkdir()
    older = onnx.load(fitted(path, reads, "abacus", None, tmp_path / "older"))
    assert older.opset_import[0].version <= reads.opset
    assert older.ir_version <= reads.ir
    x = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    expected, got = (ReferenceEvaluator(model).run(None, {"x": x}) for model in (onnx.load(path), older))
    assert isinstance(expected, list)
    assert isinstance(got, list)
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-6)


def test_an_operator_without_an_older_form_is_refused_by_its_node(tmp_path: Path) -> None:
    path = one_node("Mish", 18, tmp_path / "m.onnx")
    with pytest.raises(TargetError, match=r"m\.onnx is ONNX opset 18; abacus reads up to 17.*'the-node' \(Mish\)"):
        fitted(path, Reads(17, 8), "abacus", None, tmp_path)


def test_weights_in_their_own_file_come_along(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(4, 2), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 2])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    (tmp_path / "older").mkdir()
    older = fitted(tmp_path / "m.onnx", Reads(17, 8), "abacus", None, tmp_path / "older")
    assert numpy_helper.to_array(onnx.load(older).graph.initializer[0]).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_a_file_that_is_no_onnx_is_left_to_the_runtime(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_text("This is no model.\n" * 50)
    assert fitted(path, Reads(17, 8), "abacus", None, tmp_path) == path


def test_free_dimensions_are_bound_for_runtimes_that_have_none(tmp_path: Path) -> None:
    path = saved(elementwise(), tmp_path / "m.onnx")
    (tmp_path / "copy").mkdir()
    copy = fitted(path, Reads(17, 8), "abacus", {"x": (1, 3, 5, 4)}, tmp_path / "copy")
    assert inputs_of(copy) == [{"name": "x", "shape": [1, 3, 5, 4], "dtype": "float32"}]
    assert inputs_of(path)[0]["shape"] == [1, 3, "height", 4]
    assert fitted(copy, Reads(17, 8), "abacus", {}, tmp_path) == copy


def test_a_dimension_that_stays_free_is_asked_for(tmp_path: Path) -> None:
    path = saved(elementwise(), tmp_path / "m.onnx")
    with pytest.raises(BadInput, match=r"'x' leaves axis 2 of 1x3xheightx4 free.*--shape x="):
        fitted(path, Reads(17, 8), "abacus", {}, tmp_path)
