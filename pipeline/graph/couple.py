"""Coupled channels: run the graph once on labels, and read the groups off the classes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pipeline.graph.channels import AxisSlice, ChannelGroup, Kept, Labels, Read
from pipeline.graph.labels import IndexEdit, Labelling, SizeEdit, compact
from pipeline.graph.model import Model
from pipeline.graph.normalise import captured_names, opset
from pipeline.graph.rules import follow
from pipeline.graph.rules.node import Node
from pipeline.graph.vanish import vanishing_branches
from targets.errors import BadInput

UNWEIGHTED = "no weight makes or reads these channels"


@dataclass(frozen=True, eq=False)
class Channels:
    """The coupled channels of one graph, and all that a cut needs to know.

    `group_of[label]` is the number of the label's group in `groups`, `channel_of[label]` its channel there; both are
    -1 for labels that no group owns (nobody cuts those). `tensors` holds the labels of every activation.
    """

    groups: tuple[ChannelGroup, ...]
    group_of: NDArray[np.int64]
    channel_of: NDArray[np.int64]
    tensors: Mapping[str, Labels]
    sizes: tuple[SizeEdit, ...]
    indices: tuple[IndexEdit, ...]

    def group(self, group_id: str) -> ChannelGroup:
        for group in self.groups:
            if group.id == group_id:
                return group
        raise BadInput(f"No channel group is called {group_id!r}. See: cutback inspect MODEL")

    @property
    def free(self) -> tuple[ChannelGroup, ...]:
        """The groups that may be cut."""
        return tuple(group for group in self.groups if group.locked_because is None)

    def kept_labels(self, kept: Kept) -> NDArray[np.bool_]:
        """For every label, whether it stays. Groups that `kept` does not name stay whole."""
        stays = np.ones(len(self.group_of), bool)
        numbers = {group.id: number for number, group in enumerate(self.groups)}
        for group_id, channels in kept.items():
            if group_id not in numbers:
                raise BadInput(f"No channel group is called {group_id!r}. See: cutback inspect MODEL")
            group = self.groups[numbers[group_id]]
            _check_kept(group, channels)
            mask = np.zeros(group.channels, bool)
            mask[list(channels)] = True
            ours = self.group_of == numbers[group_id]
            stays[ours] = mask[self.channel_of[ours]]
        return stays

    def widths(self, tensor: str, axis: int) -> tuple[dict[str, int], int]:
        """What the axis' length is made of: indices per channel of each group, and the indices no group owns."""
        labels = self.tensors.get(tensor)
        if labels is None or compact(labels).shape[axis] == 1 != labels.shape[axis]:
            return {}, -1
        line = np.moveaxis(compact(labels), axis, 0).reshape(labels.shape[axis], -1)[:, 0]
        numbers, counts = np.unique(self.group_of[line], return_counts=True)
        terms = {
            self.groups[n].id: int(count) // self.groups[n].channels
            for n, count in zip(numbers, counts, strict=True)
            if n >= 0
        }
        return terms, int(counts[numbers < 0].sum())


def couple(model: Model) -> Channels:
    """Find the groups. Linear in the graph; never fails on an operator it does not know."""
    run = _run(model)
    _keep_rectangles(run)
    return _read_groups(model, run)


def _run(model: Model) -> Labelling:
    run = Labelling()
    graph = model.proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for value in graph.input:
        run.pinned[value.name] = "a graph input"
    version = opset(model.proto)
    for proto in graph.node:
        captured = tuple(name for attribute in proto.attribute for name in captured_names(attribute))
        node = Node(proto, version, constants, model.shapes, captured)
        for name, labels in zip(proto.output, follow(node, run), strict=True):
            run.tensors[name] = labels
            if labels is None:
                run.pinned.setdefault(name, next((run.pinned[i] for i in proto.input if i in run.pinned), "a constant"))
    for value in graph.output:
        run.lock(run.tensors.get(value.name), f"they are the graph's output {value.name!r}")
    return run


def _keep_rectangles(run: Labelling) -> None:
    """A tensor whose channels lie on two axes must stay a rectangle: unite along one of them.

    Keeping an axis means that all labels which share an index on it become one class. The axis that leaves the most
    classes wins; most tensors are rectangles already by what their neighbours united.
    """
    for labels in run.tensors.values():
        if labels is None:
            continue
        small = compact(labels)
        if sum(size > 1 for size in small.shape) < 2:
            continue
        classes = run.classes.find(small)
        axes = [axis for axis in range(classes.ndim) if not _constant_along(classes, axis)]
        if len(axes) > 1:
            best = max(axes, key=lambda axis: _classes_left(classes, axis))
            lines = np.moveaxis(classes, best, 0).reshape(classes.shape[best], -1)
            run.classes.unite(lines[:, :1], lines)


def _constant_along(classes: Labels, axis: int) -> bool:
    return bool((classes == classes.take([0], axis=axis)).all())


def _classes_left(classes: Labels, axis: int) -> int:
    lines = np.moveaxis(classes, axis, 0).reshape(classes.shape[axis], -1)
    unique, numbers = np.unique(lines, return_inverse=True)
    numbers = numbers.reshape(lines.shape)
    first = np.broadcast_to(numbers[:, :1], numbers.shape)
    edges = coo_matrix((np.ones(numbers.size), (first.ravel(), numbers.ravel())), shape=(len(unique),) * 2)
    return int(connected_components(edges, directed=False, return_labels=False))


def _read_groups(model: Model, run: Labelling) -> Channels:
    labels = np.arange(len(run.classes), dtype=np.int32)
    root = run.classes.find(labels) if len(labels) else labels
    locked = _by_root(root, run.locked)
    signature = _signatures(run, root)
    groups: dict[tuple[object, ...], list[int]] = {}
    inexact = {int(root[label]) for label in run.inexact}
    for member in np.unique(root):
        key = (tuple(signature.get(int(member), ())), locked.get(int(member)), int(member) in inexact)
        groups.setdefault(key, []).append(int(member))
    number_of, channel_of_root = np.full(len(root), -1, np.int64), np.full(len(root), -1, np.int64)
    for number, members in enumerate(groups.values()):
        number_of[members] = number
        channel_of_root[members] = np.arange(len(members))
    group_of, channel_of = number_of[root], channel_of_root[root]
    born = _birthplaces(run, root)
    names: set[str] = set()
    built = []
    for number, ((_, reason, is_inexact), members) in enumerate(groups.items()):
        slices, reads = _places(run, number, group_of, channel_of)
        name = _unique(born.get(members[0], f"channels{members[0]}"), names)
        lead = next((s for s in slices if s.role == "makes"), None)
        step = int((lead.channel >= 0).sum()) // len(members) if lead else 1
        weighted = any(s.role in ("makes", "reads") for s in slices)
        why = str(reason) if reason else None if weighted else UNWEIGHTED
        built.append(ChannelGroup(name, len(members) * step, step, slices, reads, why, exact=not is_inexact))
    tensors = {name: array for name, array in run.tensors.items() if array is not None}
    channels = Channels(tuple(built), group_of, channel_of, tensors, tuple(run.sizes), tuple(run.indices))
    return _mark_vanishing(model, channels)


def _mark_vanishing(model: Model, channels: Channels) -> Channels:
    branches = vanishing_branches(model, channels)
    goes_with = {inner: outer for outer, branch in branches.items() for inner in (*branch.inner, outer)}
    groups = tuple(replace(group, vanishes_with=goes_with.get(group.id)) for group in channels.groups)
    return replace(channels, groups=groups)


def _signatures(run: Labelling, root: Labels) -> dict[int, list[tuple[object, ...]]]:
    """Where each class is used: the same places, as often, make one group."""
    signature: dict[int, list[tuple[object, ...]]] = {}
    places = [(("use", use.tensor, use.axis), use.labels) for use in run.uses]
    places += [(("read", read.node, read.input, read.axis), read.labels) for read in run.reads]
    for place, line in places:
        members, counts = np.unique(root[line], return_counts=True)
        for member, count in zip(members, counts, strict=True):
            signature.setdefault(int(member), []).append((*place, int(count)))
    return signature


def _places(
    run: Labelling, number: int, group_of: NDArray[np.int64], channel_of: NDArray[np.int64]
) -> tuple[tuple[AxisSlice, ...], tuple[Read, ...]]:
    def channel(line: Labels) -> NDArray[np.int64]:
        return np.where(group_of[line] == number, channel_of[line], -1)

    slices = tuple(
        AxisSlice(use.tensor, use.axis, channel(use.labels), use.role)
        for use in run.uses
        if (group_of[use.labels] == number).any()
    )
    reads = tuple(
        Read(read.node, read.input, read.tensor, read.axis, channel(read.labels))
        for read in run.reads
        if (group_of[read.labels] == number).any()
    )
    return slices, reads


def _by_root(root: Labels, reasons: Mapping[int, str]) -> dict[int, str]:
    found: dict[int, str] = {}
    for label, reason in reasons.items():
        found.setdefault(int(root[label]), reason)
    return found


def _birthplaces(run: Labelling, root: Labels) -> dict[int, str]:
    """For each class, the first activation that carries it."""
    born: dict[int, str] = {}
    for name, labels in run.tensors.items():
        if labels is not None:
            for member in np.unique(root[compact(labels)]):
                born.setdefault(int(member), name)
    return born


def _unique(name: str, taken: set[str]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}#{count}"
    taken.add(candidate)
    return candidate


def _check_kept(group: ChannelGroup, channels: tuple[int, ...]) -> None:
    whole = tuple(range(group.channels))
    if group.locked_because and tuple(channels) != whole:
        raise BadInput(f"Group {group.id!r} cannot be cut: {group.locked_because}.")
    if any(channel not in whole for channel in channels) or list(channels) != sorted(set(channels)):
        raise BadInput(f"Kept channels of {group.id!r} must be ascending numbers from 0 to {group.channels - 1}.")
    if not channels and not group.vanishes_with:
        raise BadInput(f"Group {group.id!r} cannot lose all its channels: it is no residual branch that may vanish.")
