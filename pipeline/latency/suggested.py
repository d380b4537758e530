"""Kernels as the graph alone suggests them, for runtimes that tell none: every node that computes, with the
elementwise ones behind it that a runtime may fuse to it. What a runtime really fuses is not known; a kernel too many
costs a term of its own in the fit, and one too few shares a term with its neighbour.
"""

import math
from dataclasses import dataclass, replace

import onnx

from pipeline.graph.couple import Channels
from pipeline.graph.flops import node_flops
from pipeline.graph.model import Model
from pipeline.latency.sites import LINEAR, Site, SiteMap, Work, sites_of
from targets.kernels import Kernel

FUSIBLE = frozenset({
    "Add", "BatchNormalization", "Celu", "Clip", "Div", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish",
    "Mul", "PRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sub", "Swish", "Tanh",
})  # fmt: skip
FREE = frozenset({
    "Constant", "ConstantOfShape", "Dropout", "Flatten", "Identity", "Reshape", "Shape", "Squeeze", "Unsqueeze",
})  # fmt: skip


@dataclass(eq=False)
class _Open:
    """A kernel that may still grow: its nodes, and the tensor that it ends in."""

    nodes: list[onnx.NodeProto]
    last: str


def suggested_sites(model: Model, channels: Channels) -> SiteMap:
    """The sites of the uncut network by its graph, with what each does on paper."""
    found = sites_of(model, channels, suggested_kernels(model))
    nodes = {node.name: node for node in model.proto.graph.node}
    full = {group.id: group.channels for group in channels.groups}
    sites = tuple(
        replace(site, work=_work(model, site, [nodes[name] for name in sorted(site.nodes)], site.at(full)))
        for site in found.sites
    )
    return SiteMap(sites, found.owner, found.maker, told=False)


def suggested_kernels(model: Model) -> tuple[Kernel, ...]:
    """One kernel for every node that computes, in the graph's order; no times. Nodes that only rename or count belong
    to none."""
    graph = model.proto.graph
    readers: dict[str, int] = dict.fromkeys((value.name for value in graph.output), 1)
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    kernels: list[_Open] = []
    maker: dict[str, _Open] = {}
    for node in graph.node:
        if node.op_type in FREE:
            continue
        host = _host(node, maker, readers)
        if host is not None:
            host.nodes.append(node)
            host.last = node.output[0]
        else:
            host = _Open([node], node.output[0])
            kernels.append(host)
        maker.update(dict.fromkeys(node.output, host))
    return tuple(_kernel(each.nodes) for each in kernels)


def _host(node: onnx.NodeProto, maker: dict[str, _Open], readers: dict[str, int]) -> _Open | None:
    """The kernel that the node belongs to: the latest that ends in one of its inputs, which nobody else reads."""
    if node.op_type not in FUSIBLE:
        return None
    ends = [maker[name] for name in node.input if name in maker and maker[name].last == name and readers[name] == 1]
    return ends[-1] if ends else None


def _kernel(nodes: list[onnx.NodeProto]) -> Kernel:
    first = next((node for node in nodes if node.op_type in LINEAR), nodes[0])
    return Kernel(
        first.output[0], first.op_type, (), (nodes[-1].output[0],), (), (), (), nodes=tuple(node.name for node in nodes)
    )


def _work(model: Model, site: Site, own: list[onnx.NodeProto], widths: tuple[int, ...]) -> Work:
    """`widths`: of the uncut network."""
    weights = {tensor.name: math.prod(tensor.dims) for tensor in model.proto.graph.initializer}
    made = {name for node in own for name in node.output}
    linear = next((node for node in own if node.name == site.linear), None)
    first = {linear.input[0]} if linear is not None else set()
    read = {name for node in own for name in node.input if name and name not in weights} - made
    product = max(math.prod(widths), 1)
    source, target = max(widths[0], 1), max(widths[-1], 1)

    def elements(names: set[str]) -> float:
        return float(sum(math.prod(model.shapes.get(name, ())) for name in names))

    return Work(
        sum(node_flops(node, model) for node in own) / product,
        sum(weights.get(name, 0) for node in own for name in node.input) / product,
        elements(first & read) / source,
        (elements(read - first) + elements({site.name})) / target,
    )
