"""The work of an analysis grows with the graph: counted in operations, never in seconds."""

import sys
from collections.abc import Callable

import numpy as np
import onnx
import pytest

from benchmarks.graphs import FAMILIES, SIDE, WIDTH, Sketch
from pipeline.graph.couple import couple
from pipeline.graph.cut import cut
from pipeline.graph.labels import LabelClasses
from pipeline.graph.model import Model, from_proto
from pipeline.graph.shapes import infer_shapes

SMALL, LARGE = 150, 600
# Four times the nodes may take a little more than four times the work: dictionaries grow, caches fill.
MOST = 4.6


def calls_of(function: Callable[[], object]) -> int:
    """How many Python and C functions are called on the way."""
    count = 0

    def one_more(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(one_more)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


def counted_inferences(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by an entry with every inference over a whole graph."""
    runs: list[int] = []
    infer = onnx.shape_inference.infer_shapes

    def counted(model: onnx.ModelProto, **options: bool) -> onnx.ModelProto:
        runs.append(len(model.graph.node))
        return infer(model, **options)

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", counted)
    return runs


def loaded(family: str, nodes: int) -> Model:
    return from_proto(FAMILIES[family](nodes))


def halved(model: Model) -> Model:
    channels = couple(model)
    return cut(model, channels, {group.id: tuple(range(group.channels // 2)) for group in channels.free})


@pytest.mark.parametrize("family", FAMILIES)
def test_loading_four_times_the_nodes_takes_four_times_the_calls(family):
    small, large = (FAMILIES[family](nodes) for nodes in (SMALL, LARGE))
    from_proto(small)  # modules are imported and evaluators kept
    growth = calls_of(lambda: from_proto(large)) / calls_of(lambda: from_proto(small))
    assert growth < MOST * len(large.graph.node) / len(small.graph.node) / (LARGE / SMALL)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("step", [couple, halved])
def test_coupling_and_cutting_four_times_the_nodes_take_four_times_the_calls(family, step):
    small, large = (loaded(family, nodes) for nodes in (SMALL, LARGE))
    step(small)
    assert calls_of(lambda: step(large)) / calls_of(lambda: step(small)) < MOST


def test_labels_looked_up_grow_with_the_graph(monkeypatch):
    looked_up = 0
    find = LabelClasses.find

    def counted(self: LabelClasses, labels: np.ndarray) -> np.ndarray:
        nonlocal looked_up
        looked_up += labels.size
        return find(self, labels)

    monkeypatch.setattr(LabelClasses, "find", counted)
    sizes = []
    for nodes in (SMALL, LARGE):
        looked_up = 0
        couple(loaded("residual and concat", nodes))
        sizes.append(looked_up)
    assert sizes[1] / sizes[0] < MOST


def test_a_graph_without_shape_arithmetic_takes_one_inference(monkeypatch):
    runs = counted_inferences(monkeypatch)
    from_proto(FAMILIES["residual and concat"](SMALL))
    assert len(runs) == 1


def test_sizes_that_hang_on_each_other_in_a_long_chain_are_settled_in_one_walk(monkeypatch):
    """Halves by way of floats, which whole-graph inference does not follow."""
    sketch = Sketch()
    x = sketch.layer("image", 3, WIDTH)
    for _ in range(30):
        sizes = sketch.op("Cast", sketch.op("Shape", sketch.layer(x, WIDTH, WIDTH)), to=onnx.TensorProto.FLOAT)
        scaled = sketch.op("Mul", sizes, sketch.constant([1.0, 0.5, 2.0, 1.0]))
        x = sketch.op("Reshape", x, sketch.op("Cast", scaled, to=onnx.TensorProto.INT64))
        x = sketch.op("Reshape", x, sketch.constant([0, WIDTH, SIDE, SIDE], np.int64))
    runs = counted_inferences(monkeypatch)
    model = from_proto(sketch.model(sketch.op("Relu", x), ["batch", WIDTH, SIDE, SIDE]))
    assert not any(node.op_type == "Cast" for node in model.proto.graph.node)
    assert all(name in model.shapes for node in model.proto.graph.node for name in node.output)
    assert len(runs) < 15


def test_inference_is_given_no_large_weight(monkeypatch):
    given = []
    infer = onnx.shape_inference.infer_shapes

    def measured(model: onnx.ModelProto, **options: bool) -> onnx.ModelProto:
        given.append(model.ByteSize())
        return infer(model, **options)

    model = loaded("residual and concat", SMALL)
    weight = np.ones((512, 512, 3, 3), np.float32)
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Conv", ["x", "w"], ["y"])], "wide",
            [onnx.helper.make_tensor_value_info("x", 1, [1, 512, 8, 8])],
            [onnx.helper.make_tensor_value_info("y", 1, [1, 512, 6, 6])],
            [onnx.numpy_helper.from_array(weight, "w")],
        ),
        opset_imports=model.proto.opset_import,
    )  # fmt: skip
    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", measured)
    assert infer_shapes(proto, {"x": (1, 512, 8, 8)})["y"] == (1, 512, 6, 6)
    assert max(given) < 10_000


def test_a_model_in_memory_stays_as_it_is():
    proto = FAMILIES["shape arithmetic"](SMALL)
    before = proto.SerializeToString(deterministic=True)
    from_proto(proto)
    assert proto.SerializeToString(deterministic=True) == before
