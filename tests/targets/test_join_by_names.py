"""Kernels joined to the graph by the names that they carry."""

from pathlib import Path

import pytest
from onnx import helper

from targets.runtimes.join_by_names import Ran, join_by_names
from tests.targets.models import model_of, residual, saved

ONE = (1_000,)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return saved(residual(), tmp_path / "m.onnx")


def test_a_convolution_named_after_its_batchnorm_takes_what_reads_it(source: Path) -> None:
    first, *_ = join_by_names([Ran("k0", "Convolution", ONE, ("Multiply_7", "a/bn", "a/relu"))], source, {})
    assert first.nodes == ("a/conv", "a/bn", "a/relu")
    assert first.fused == ("Conv", "Relu")
    assert (first.inputs, first.outputs) == (("x/in:0",), ("a.relu",))
    assert first.weight_shapes[0] == (20, 3, 3, 3)
    assert first.output_shapes == ((1, 20, 8, 8),)


def test_an_activation_that_nobody_names_belongs_to_what_feeds_it(source: Path) -> None:
    names = ("a/conv:0", "b/conv:0", "b/sum", "c/conv:0", "y")
    kernels = join_by_names([Ran(name, "op", ONE, (name,)) for name in names], source, {})
    assert [kernel.nodes for kernel in kernels] == [
        ("a/conv", "a/bn", "a/relu"), ("b/conv",), ("b/add", "b/relu"), ("c/conv",), ("c/pool",),
    ]  # fmt: skip
    assert kernels[2].inputs == ("b/conv:0", "a.relu")


def test_a_layout_change_stands_for_the_tensor_of_what_it_reads(source: Path) -> None:
    ran = [
        Ran("in", "Reorder", ONE, (), feeds_from=("x/in:0",)),
        Ran("conv", "Convolution", ONE, ("a/relu",), feeds_from=("in",)),
        Ran("back", "Reorder", ONE, (), feeds_from=("conv",)),
    ]
    into, conv, back = join_by_names(ran, source, {})
    assert (into.inputs, into.outputs, into.nodes) == (("x/in:0",), ("x/in:0",), ())
    assert (back.inputs, back.outputs, back.nodes) == (("a.relu",), ("a.relu",), ())
    assert conv.outputs == ("a.relu",)


def test_a_hint_counts_only_where_no_kernel_claims_the_node(source: Path) -> None:
    ran = [
        Ran("a/conv:0_raster_0", "Raster", ONE, ("a/conv:0_raster_0",), hints=("a/conv:0",)),
        *(Ran(name, "op", ONE, (name,)) for name in ("a/conv:0", "b/conv:0", "b/sum", "c/conv:0")),
        Ran("y_raster_0", "Pooling", ONE, ("y_raster_0",), hints=("y",)),
    ]
    raster, conv, *_, pool = join_by_names(ran, source, {})
    assert (raster.nodes, raster.inputs) == ((), ("x/in:0",))
    assert conv.nodes[0] == "a/conv"
    assert pool.nodes == ("c/pool",)


def test_what_begins_a_network_belongs_to_its_reader(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["same"], "same"), helper.make_node("Relu", ["same"], ["y"], "relu")]
    source = saved(model_of(nodes, {"x": [1, 4]}, {"y": [1, 4]}, {}), tmp_path / "m.onnx")
    (kernel,) = join_by_names([Ran("relu", "Relu", ONE, ("relu",))], source, {})
    assert kernel.nodes == ("same", "relu")
    assert kernel.inputs == ("x",)


def test_a_kernel_that_cannot_be_placed_keeps_its_own_name(source: Path) -> None:
    (kernel,) = join_by_names([Ran("mystery", "Magic", ONE, ("nowhere",))], source, {})
    assert (kernel.nodes, kernel.inputs, kernel.outputs) == ((), ("mystery",), ("mystery",))
    assert kernel.samples_ns == ONE
