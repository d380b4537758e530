"""Kernels speak of the tensors of the graph that was given."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from targets.connection import Connection
from targets.device import Device
from targets.kernels import Kernel, Profile, fastest, fifth, in_gauges
from targets.measurement import Session
from targets.profiles.key import kernel_key
from targets.profiles.rows import rows_of
from tests.targets.models import elementwise, model_of, residual, saved


def working(kernels: tuple[Kernel, ...]) -> list[Kernel]:
    return [kernel for kernel in kernels if not kernel.op.startswith("Reorder")]


def profile_of(*kernels: tuple[int, ...], gauge_ns: tuple[int, ...] = ()) -> Profile:
    made = tuple(Kernel(f"k{n}", "Conv", (), (), (), (), samples) for n, samples in enumerate(kernels))
    return Profile(made, Session((1,), 0), Device({}, {}, {}, {}), gauge_ns)


@pytest.mark.parametrize(("count", "looked_at"), [(0, 0), (1, 1), (5, 5), (24, 5), (25, 5), (26, 6), (100, 20)])
def test_a_fifth_of_the_runs_is_looked_at_though_not_fewer_than_five(count: int, looked_at: int) -> None:
    assert fifth(count) == looked_at


def test_the_fastest_fifth_does_not_see_what_slowed_the_others() -> None:
    generator = np.random.default_rng(0)
    steady = [1000.0] * 20
    slowed = [float(time) for time in generator.uniform(1010, 5000, 80)]
    mixed = [float(time) for time in generator.permutation([*steady, *slowed])]
    assert fastest(mixed) == 1000.0
    assert fastest([3.0, 1.0, 2.0]) == 2.0  # too few to leave any out


def test_calm_runs_are_those_whose_kernels_together_were_fastest() -> None:
    first = tuple(100 if run % 5 == 3 else 500 - run for run in range(25))
    second = tuple(10 if run == 4 else 200 for run in range(25))  # one kernel alone was fast: that is no calm run
    assert profile_of(first, second).calm == (3, 8, 13, 18, 23)
    assert len(profile_of(first[:4], second[:4]).calm) == 4


def test_the_levels_of_a_profiles_kernels_add_up() -> None:
    generator = np.random.default_rng(0)
    kernels = [tuple(int(time) for time in generator.integers(1000, 9000, 40)) for _ in range(3)]
    found = profile_of(*kernels, gauge_ns=tuple(int(time) for time in generator.integers(900, 1100, 24)))
    together = tuple(map(sum, zip(*kernels, strict=True)))
    apart = sum(in_gauges(kernel, found.gauge_ns, found.calm) for kernel in kernels)
    assert apart == pytest.approx(in_gauges(together, found.gauge_ns, found.calm), rel=1e-12)
    assert apart == pytest.approx(in_gauges(together, found.gauge_ns), rel=1e-12)  # calm: the fastest fifth as a whole


def test_levels_stand_still_where_the_device_wanders() -> None:
    slow = in_gauges([1300, 2600], [130], [0, 1])
    assert slow == pytest.approx(in_gauges([1000, 2000], [100], [0, 1])) == pytest.approx(15.0)
    assert in_gauges([1000, 2000], [], [1]) == 2000.0  # nanoseconds where no gauge ran


def test_fused_kernels_carry_the_original_tensors_and_true_shapes(connection: Connection, model: Path) -> None:
    first, second, third, pool = working(connection.profile(model, runs=3).kernels)
    assert (first.inputs, first.outputs) == (("x/in:0",), ("a.relu",))
    assert (first.fused, first.nodes) == (("Conv", "Relu"), ("a/conv", "a/bn", "a/relu"))
    assert (second.inputs, second.outputs) == (("a.relu", "a.relu"), ("b.relu",))
    assert (second.fused, second.nodes) == (("Conv", "Add", "Relu"), ("b/conv", "b/add", "b/relu"))
    assert (third.inputs, third.outputs) == (("b.relu",), ("c/conv:0",))
    assert (pool.inputs, pool.outputs, pool.fused) == (("c/conv:0",), ("y",), ("GlobalAveragePool",))
    # 20 and 6 channels, though blocked kernels pad them to whole vectors
    assert (first.input_shapes, first.output_shapes) == (((1, 3, 8, 8),), ((1, 20, 8, 8),))
    assert second.input_shapes == ((1, 20, 8, 8), (1, 20, 8, 8))
    assert third.output_shapes == ((1, 6, 8, 8),)


def test_a_layout_change_carries_one_tensor_on_both_sides(connection: Connection, model: Path) -> None:
    reorders = [kernel for kernel in connection.profile(model, runs=3).kernels if kernel.op.startswith("Reorder")]
    if not reorders:
        pytest.skip("this processor has no blocked layout")
    known = {name for node in residual().graph.node for name in node.output}
    for kernel in reorders:
        assert kernel.inputs == kernel.outputs
        assert set(kernel.outputs) <= known
        assert kernel.fused == (kernel.op,)


def test_a_fusion_inside_the_blocked_layout_is_told_by_its_reader(connection: Connection, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((16, 16, 1, 1)).astype(np.float32) for name in ("w1", "w2")}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "first"),
        helper.make_node("Sigmoid", ["a"], ["g"], "gate"),
        helper.make_node("Mul", ["a", "g"], ["swish"], "product"),
        helper.make_node("Conv", ["swish", "w2"], ["y"], "second"),
    ]
    model = model_of(nodes, {"x": [1, 16, 4, 4]}, {"y": [1, 16, 4, 4]}, weights)
    kernels = working(connection.profile(saved(model, tmp_path / "swish.onnx"), runs=3).kernels)
    assert [(kernel.inputs, kernel.outputs) for kernel in kernels] == [
        (("x",), ("a",)),
        (("a",), ("swish",)),
        (("swish",), ("y",)),
    ]
    assert kernels[1].nodes == ("gate", "product")


def test_concat_and_pool_in_the_blocked_layout_keep_their_names(connection: Connection, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {f"w{i}": rng.standard_normal((16, c, 3, 3)).astype(np.float32) for i, c in enumerate((16, 16, 32))}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], "left", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["x", "w1"], ["b"], "right", pads=[1, 1, 1, 1]),
        helper.make_node("Concat", ["a", "b"], ["ab"], "join", axis=1),
        helper.make_node("MaxPool", ["ab"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p", "w2"], ["y"], "last"),
    ]
    model = model_of(nodes, {"x": [1, 16, 8, 8]}, {"y": [1, 16, 2, 2]}, weights)
    kernels = {kernel.nodes: kernel for kernel in connection.profile(saved(model, tmp_path / "m.onnx"), runs=3).kernels}
    assert kernels["join",].inputs == ("a", "b")
    assert (kernels["pool",].inputs, kernels["pool",].outputs) == (("ab",), ("p",))
    assert kernels["pool",].output_shapes == ((1, 32, 4, 4),)
    assert (kernels["last",].inputs, kernels["last",].outputs) == (("p",), ("y",))


def test_a_node_without_a_name_keeps_its_time_and_says_nothing_else(connection: Connection, tmp_path: Path) -> None:
    model = elementwise((1, 4))
    model.graph.node[0].name = ""
    (kernel,) = connection.profile(saved(model, tmp_path / "m.onnx"), runs=3).kernels
    assert (kernel.op, kernel.inputs, kernel.outputs, len(kernel.samples_ns)) == ("Relu", (), (), 3)


def test_a_body_is_counted_in_its_control_flow_node_only(connection: Connection, tmp_path: Path) -> None:
    def branch(op: str) -> onnx.GraphProto:
        output = helper.make_tensor_value_info(op, TensorProto.FLOAT, [1, 4])
        return helper.make_graph([helper.make_node(op, ["x"], [op], f"in {op}")], op, [], [output])

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], "sum", keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"], "compare"),
        helper.make_node("If", ["positive"], ["y"], "choose", then_branch=branch("Relu"), else_branch=branch("Neg")),
    ]
    model = model_of(nodes, {"x": [1, 4]}, {"y": [1, 4]}, {"zero": np.zeros((), np.float32)})
    kernels = connection.profile(saved(model, tmp_path / "m.onnx"), runs=3).kernels
    assert [kernel.name for kernel in kernels] == ["sum", "compare", "choose"]


def test_an_engine_can_be_profiled_too(connection: Connection, model: Path, tmp_path: Path) -> None:
    engine = connection.build(model, tmp_path / "engine.onnx")
    kernels = working(connection.profile(engine, runs=3).kernels)
    assert kernels[-1].outputs == ("y",)
    assert len(kernels) == 4


def test_equal_kernels_of_two_networks_share_their_key(connection: Connection, tmp_path: Path) -> None:
    def key_of(conv: str, tensor: str, kernel: int) -> str:
        weights = {"w": np.ones((8, 8, kernel, kernel), np.float32)}
        node = helper.make_node("Conv", [tensor, "w"], ["y"], conv, auto_pad="SAME_UPPER")
        model = model_of([node], {tensor: [1, 8, 8, 8]}, {"y": [1, 8, 8, 8]}, weights)
        profile = connection.profile(saved(model, tmp_path / "m.onnx"), runs=3)
        (found,) = [kernel for kernel in profile.kernels if "Conv" in kernel.fused]
        return kernel_key(found, profile.device).digest

    assert key_of("one", "x", 3) == key_of("two", "z", 3)
    assert key_of("one", "x", 3) != key_of("one", "x", 5)


def test_a_profile_becomes_rows_that_tell_equal_kernels_apart(connection: Connection, tmp_path: Path) -> None:
    names = ["x", "a", "b", "y"]
    nodes = [helper.make_node("Erf", names[i : i + 1], names[i + 1 : i + 2], f"n{i}") for i in range(3)]
    model = model_of(nodes, {"x": [1, 4]}, {"y": [1, 4]}, {})
    profile = connection.profile(saved(model, tmp_path / "m.onnx"), runs=3)
    rows = rows_of(profile, "session-1")
    assert len({row.key.digest for row in rows}) == 1
    assert [row.index for row in rows] == [0, 1, 2]
    assert rows[0].samples_ns == profile.kernels[0].samples_ns


def test_a_profiles_conditions_are_kept_with_its_rows_and_not_in_their_keys(
    connection: Connection, tmp_path: Path
) -> None:
    profile = connection.profile(saved(elementwise((1, 4)), tmp_path / "m.onnx"), runs=3)
    told = {"after": {"heat": {"temperature_c": 41.5}}}
    with_, without = (
        rows_of(replace(profile, end_to_end=replace(profile.end_to_end, conditions=conditions)), "s")[0]
        for conditions in (told, {})
    )
    assert with_.observed == {**without.observed, "conditions": told}
    assert with_.key == without.key
