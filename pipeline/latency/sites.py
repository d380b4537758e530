"""Sites: the places in a network where the runtime spends its time, and the widths each place depends on.

A site is one kernel of the uncut network. In a cut network the kernels that compute a site's nodes belong to the same
site, layout changes of its output included, so the sites' times always add up to all kernels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import onnx
from onnx import helper

from pipeline.allocation.problem import Width
from pipeline.graph.couple import Channels
from pipeline.graph.labels import labelled_axes
from pipeline.graph.model import Model
from pipeline.latency.grain import Grain
from targets.kernels import Kernel, Profile, in_gauges

LINEAR = ("Conv", "ConvTranspose", "FusedConv", "Gemm", "MatMul")


class Work(NamedTuple):
    """What a site does on paper. `macs`: multiply-adds, `weights`: elements, both for each unit of the product of its
    widths. `reads`: elements for each unit of its first width; `makes`: and of its last one. `slower`: for each width
    the share of its time that it takes more off the step, as its kind showed by itself; empty where it was not swept.
    """

    macs: float
    weights: float
    reads: float
    makes: float
    slower: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Site:
    """`family`: all that the time depends on besides widths. `widths`: input and output side of a linear kernel, the
    output side alone of any other; equal sides of a grouped convolution (depthwise) count once. `linear`: the node that
    multiplies, or None. `grains`: of each width, once they are known. `work`: where the runtime tells no times.
    """

    name: str
    family: Mapping[str, Any]
    widths: tuple[Width, ...]
    nodes: frozenset[str]
    linear: str | None
    grains: tuple[Grain, ...] = ()
    work: Work | None = None

    def at(self, channels: Mapping[str, int]) -> tuple[int, ...]:
        """The site's widths under a plan (group id -> channels kept)."""
        return tuple(width.at(channels) for width in self.widths)


@dataclass(frozen=True)
class SiteTime:
    """What a site took in one profile: its kernels' times summed run by run, in ns, and how many kernels they were."""

    samples_ns: tuple[int, ...]
    kernels: int

    @classmethod
    def of(cls, kernels: Sequence[Kernel]) -> "SiteTime":
        if not kernels:
            return cls((0,), 0)
        return cls(tuple(map(sum, zip(*(kernel.samples_ns for kernel in kernels), strict=True))), len(kernels))

    def level(self, profile: Profile) -> float:
        """In gauges of the profile that it is from; ns where no gauge ran."""
        return in_gauges(self.samples_ns, profile.gauge_ns, profile.calm) if self.kernels else 0.0


@dataclass(frozen=True, eq=False)
class SiteMap:
    """All sites of a network, and which one owns each node. `told`: by a runtime; else the graph suggests them, they
    know their work on paper, and only whole networks are timed."""

    sites: tuple[Site, ...]
    owner: Mapping[str, str]
    maker: Mapping[str, str]
    told: bool = True

    def gather(self, kernels: Sequence[Kernel]) -> dict[str, "SiteTime"]:
        """Per site, the kernels that belong there; a site that none belongs to took no time."""
        found: dict[str, list[Kernel]] = {site.name: [] for site in self.sites}
        for kernel in kernels:
            found[self._site_of(kernel)].append(kernel)
        return {name: SiteTime.of(members) for name, members in found.items()}

    def _site_of(self, kernel: Kernel) -> str:
        for node in reversed(kernel.nodes):
            if node in self.owner:
                return self.owner[node]
        for tensor in (*kernel.outputs, *kernel.inputs):
            if self.maker.get(tensor) in self.owner:
                return self.owner[self.maker[tensor]]
        return self.sites[0].name  # layout of a graph input: paid where the network begins


def sites_of(model: Model, channels: Channels, kernels: Sequence[Kernel]) -> SiteMap:
    """The sites of the uncut network from its profile."""
    nodes = {node.name: node for node in model.proto.graph.node}
    maker = {name: node.name for node in model.proto.graph.node for name in node.output}
    owner: dict[str, str] = {}
    sites = []
    for kernel in kernels:
        own = [nodes[name] for name in kernel.nodes if name in nodes and name not in owner]
        if own:
            site = _site(model, channels, kernel, own)
            owner.update((node.name, site.name) for node in own)
            sites.append(site)
    return SiteMap(tuple(sites), owner, maker)


def _site(model: Model, channels: Channels, kernel: Kernel, own: Sequence[onnx.NodeProto]) -> Site:
    linear = next((node for node in own if node.op_type in LINEAR), None)
    last = own[-1].output[0]
    sides = [width_of(model, channels, last)]
    if linear is not None:
        sides.insert(0, width_of(model, channels, linear.input[0]))
        sides[1] = width_of(model, channels, linear.output[0])
    grouping = grouping_of(model, channels, linear) if linear is not None else {}
    widths = tuple(dict.fromkeys(sides)) if grouping else tuple(sides)
    family: dict[str, Any] = {
        "ops": list(kernel.fused) or [kernel.op],
        "shapes": [_without_channels(model, channels, name) for name in (own[0].input[0], last)],
        "sides": len(widths),
    }
    if linear is not None:
        family |= {"attributes": linear_attributes(linear), **grouping}
    return Site(last, family, widths, frozenset(node.name for node in own), linear.name if linear else None)


def grouping_of(model: Model, channels: Channels, linear: onnx.NodeProto) -> dict[str, int]:
    """What stays as it is when a grouped convolution gets thinner: "per_group", its inputs a group, where whole groups
    leave, else the number of "groups". Empty for a dense one."""
    groups = next((attribute.i for attribute in linear.attribute if attribute.name == "group"), 1)
    if groups == 1 or linear.op_type not in ("Conv", "FusedConv"):
        return {}
    weight = linear.input[1]
    thinner = any(piece.tensor == weight and piece.axis == 1 for group in channels.free for piece in group.slices)
    return {"groups": groups} if thinner else {"per_group": model.shapes[weight][1]}


def linear_attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The node's attributes without the group count, which goes with the width."""
    found = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    plain = {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}
    return {name: list(v) if isinstance(v, (list, tuple)) else v for name, v in plain.items() if name != "group"}


def channel_axis(channels: Channels, tensor: str) -> int | None:
    """The axis along which the tensor's channels lie, or None where it carries none that anyone may cut."""
    labels = channels.tensors.get(tensor)
    axes = labelled_axes(labels) if labels is not None else ()
    return axes[0] if axes else None


def width_of(model: Model, channels: Channels, tensor: str) -> Width:
    """The length of the tensor's channel axis as a sum over groups; locked groups count as a constant."""
    axis = channel_axis(channels, tensor)
    if axis is None:
        shape = model.shapes.get(tensor, ())
        return Width((), shape[1] if len(shape) > 1 else 1)
    terms, constant = channels.widths(tensor, axis)
    locked = {group.id: group for group in channels.groups if group.locked_because}
    constant += sum(step * locked[group].channels for group, step in terms.items() if group in locked)
    return Width(tuple(sorted((g, s) for g, s in terms.items() if g not in locked)), constant)


def _without_channels(model: Model, channels: Channels, tensor: str) -> list[int | str]:
    axis = channel_axis(channels, tensor)
    shape = model.shapes.get(tensor, ())
    own = axis if axis is not None else 1
    return ["C" if position == own else size for position, size in enumerate(shape)]
