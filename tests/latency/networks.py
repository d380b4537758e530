"""A profiled network in miniature, and kernels whose law is known."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.allocation.problem import Width
from pipeline.graph.model import Model, from_proto
from pipeline.latency.grain import Grain
from pipeline.latency.sites import Site, SiteMap
from pipeline.latency.table import Sample

SIDE = 8


def built(nodes: Sequence[onnx.NodeProto], weights: Mapping[str, tuple[int, ...]], inputs: int = 3) -> Model:
    """A graph from `x` (batch, inputs, 8, 8) to `y`; weights of the given shapes are drawn at random."""
    generator = np.random.default_rng(0)
    graph = helper.make_graph(
        list(nodes),
        "miniature",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", inputs, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])],
        [
            numpy_helper.from_array((generator.standard_normal(shape) / 4).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def conv(source: str, target: str, kernel: int = 3, groups: int = 1, bias: bool = False) -> onnx.NodeProto:
    pads = [kernel // 2] * 4
    names = [source, f"{target}.w", *([f"{target}.b"] if bias else [])]
    return helper.make_node("Conv", names, [target], target, pads=pads, kernel_shape=[kernel] * 2, group=groups)


def relu(source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("Relu", [source], [target], target)


def head(source: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("GlobalAveragePool", [source], ["pooled"], "pooled"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "y.w", "y.b"], ["y"], "y"),
    ]


def residual(width: int = 16, tail: str | None = None) -> Model:
    """stem, relu, a branch of two convolutions that may vanish, add, relu, head; `tail`: an operator before it."""
    nodes = [
        conv("x", "stem"), relu("stem", "stem.out"), conv("stem.out", "inner"), relu("inner", "inner.out"),
        conv("inner.out", "outer"), helper.make_node("Add", ["stem.out", "outer"], ["sum"], "sum"), relu("sum", "last"),
        *([helper.make_node(tail, ["last"], ["tail"], "tail"), *head("tail")] if tail else head("last")),
    ]  # fmt: skip
    shapes = {
        "stem.w": (width, 3, 3, 3), "inner.w": (width, width, 3, 3), "outer.w": (width, width, 3, 3),
        "y.w": (width, 10), "y.b": (10,),
    }  # fmt: skip
    return built(nodes, shapes)


def grouped(width: int, groups: int, narrow: int | None = None) -> Model:
    """1x1, a grouped 3x3, 1x1, head. With `narrow`, all of the grouped one's inputs come from fewer, wider groups."""
    nodes = [
        conv("x", "in", 1), relu("in", "in.out"), conv("in.out", "mid", 3, groups), relu("mid", "mid.out"),
        conv("mid.out", "out", 1), relu("out", "last"), *head("last"),
    ]  # fmt: skip
    shapes = {
        "in.w": (width, 3, 1, 1), "mid.w": (width, width // groups, 3, 3), "out.w": (width, width, 1, 1),
        "y.w": (width, 10), "y.b": (10,),
    }  # fmt: skip
    return built(nodes, shapes)


def square_skip(width: int = 16, groups: int = 1) -> Model:
    """A convolution that reads and makes the same channels: x + conv(x)."""
    nodes = [
        conv("x", "stem"), relu("stem", "stem.out"), conv("stem.out", "body", 3, groups),
        helper.make_node("Add", ["stem.out", "body"], ["sum"], "sum"), relu("sum", "last"), *head("last"),
    ]  # fmt: skip
    shapes = {"stem.w": (width, 3, 3, 3), "body.w": (width, width // groups, 3, 3), "y.w": (width, 10), "y.b": (10,)}
    return built(nodes, shapes)


# A chain of three convolutions over two groups, whose kernels take a fixed time and one that grows with both sides.
GROUPS = {"a": 64, "b": 64}
LAW_NS = {"first": (2000.0, 0.0, 40.0), "second": (1500.0, 2.0, 0.0), "third": (1000.0, 0.0, 25.0)}
SITE_WIDTHS = {
    "first": (Width((), 3), Width((("a", 1),))),
    "second": (Width((("a", 1),)), Width((("b", 1),))),
    "third": (Width((("b", 1),)), Width((), 10)),
}


def true_ns(site: str, plan: Mapping[str, int]) -> float:
    """fixed + by_product * in * out + by_width * whichever side may change."""
    fixed, by_product, by_width = LAW_NS[site]
    source, target = (width.at(plan) for width in SITE_WIDTHS[site])
    free = source if site == "third" else target
    return fixed + by_product * source * target + by_width * free


def lawful_sites(grain: Grain | None = None) -> SiteMap:
    grains = (grain, grain) if grain else ()
    sites = tuple(
        Site(name, {"ops": [name]}, widths, frozenset({name}), name, grains) for name, widths in SITE_WIDTHS.items()
    )
    return SiteMap(sites, {name: name for name in SITE_WIDTHS}, {})


def lawful_sample(
    plan: Mapping[str, int],
    overhead_ns: float = 0.0,
    scale: float = 1.0,
    offset_ns: float = 0.0,
    factors: Mapping[str, float] | None = None,
    gauge_ns: float = 0.0,
) -> Sample:
    """Profiled kernels carry `overhead_ns` each; end to end does not. `factors`: of sites that break their law."""
    own = {name: true_ns(name, plan) * (factors or {}).get(name, 1.0) for name in SITE_WIDTHS}
    profiled = {name: time + overhead_ns for name, time in own.items()}
    return Sample(dict(plan), profiled, dict.fromkeys(own, 1), scale * sum(own.values()) + offset_ns, gauge_ns)
