"""Coupled channels: run the graph once on labels, and read the groups off the classes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.graph.balance import keep_balance
from pipeline.graph.channels import ChannelGroup, Kept, Labels
from pipeline.graph.grouping import read_groups
from pipeline.graph.labels import Blocks, IndexEdit, Labelling, SizeEdit, compact
from pipeline.graph.model import Model
from pipeline.graph.normalise import captured_names, opset
from pipeline.graph.rectangles import keep_rectangles
from pipeline.graph.rules import follow
from pipeline.graph.rules.node import Node
from pipeline.graph.rules.sizes import lock_sizes
from pipeline.graph.shapes import size_values
from pipeline.graph.vanish import vanishing_branches
from targets.errors import BadInput


@dataclass(frozen=True, eq=False)
class Channels:
    """The coupled channels of one graph, and all that a cut needs to know.

    `group_of[label]` is the number of the label's group in `groups`, `channel_of[label]` its channel there.
    `tensors` holds the labels of every activation that carries channels, `blocks` how channels in blocks were coupled,
    `refused` the nodes that could not be followed, each with its reason.
    """

    groups: tuple[ChannelGroup, ...]
    group_of: NDArray[np.int64]
    channel_of: NDArray[np.int64]
    tensors: Mapping[str, Labels]
    sizes: tuple[SizeEdit, ...]
    indices: tuple[IndexEdit, ...]
    blocks: Blocks = "auto"
    refused: tuple[str, ...] = ()

    @cached_property
    def _number_of(self) -> Mapping[str, int]:
        return {group.id: number for number, group in enumerate(self.groups)}

    def group(self, group_id: str) -> ChannelGroup:
        if group_id not in self._number_of:
            raise BadInput(f"No channel group is called {group_id!r}. See: cutback inspect MODEL")
        return self.groups[self._number_of[group_id]]

    @property
    def free(self) -> tuple[ChannelGroup, ...]:
        """The groups that may be cut."""
        return tuple(group for group in self.groups if group.locked_because is None)

    def kept_labels(self, kept: Kept) -> NDArray[np.bool_]:
        """For every label, whether it stays. Groups that `kept` does not name stay whole."""
        offsets = np.cumsum([0, *(group.channels for group in self.groups)])
        stays = np.ones(int(offsets[-1]), bool)
        for group_id, channels in kept.items():
            group = self.group(group_id)
            _check_kept(group, channels)
            first = int(offsets[self._number_of[group_id]])
            stays[first : first + group.channels] = False
            stays[first + np.asarray(channels, np.int64)] = True
        return stays[offsets[self.group_of] + self.channel_of]

    def widths(self, tensor: str, axis: int) -> tuple[dict[str, int], int]:
        """What the axis' length is made of: indices per channel of each group, and the indices no group owns.

        No groups and -1 where a cut never changes the axis' length.
        """
        labels = self.tensors.get(tensor)
        small = None if labels is None else compact(labels)
        if small is None or labels is None or small.shape[axis] == 1 != labels.shape[axis]:
            return {}, -1
        lines = np.moveaxis(small, axis, 0).reshape(small.shape[axis], -1)
        groups, channels = self.group_of[lines], self.channel_of[lines]
        if len(lines) > 1 and (groups == groups[:1]).all() and (channels == channels[:1]).all():
            return {}, -1  # blocks that all lose the same channels stay as many as they are
        numbers, counts = np.unique(groups[:, 0], return_counts=True)
        terms = {
            self.groups[n].id: int(count) // self.groups[n].channels
            for n, count in zip(numbers, counts, strict=True)
            if n >= 0
        }
        return terms, int(counts[numbers < 0].sum())


def couple(model: Model, *, blocks: Blocks = "auto") -> Channels:
    """Find the groups. Linear in the graph; never fails on an operator it does not know.

    `blocks`: what grouped convolutions, attention heads and channels in blocks lose (see `labels.Blocks`).
    """
    run = _run(model, blocks)
    keep_rectangles(run)
    keep_balance(run)
    groups, group_of, channel_of = read_groups(run)
    tensors = {name: labels for name, labels in run.tensors.items() if labels is not None}
    channels = Channels(
        groups, group_of, channel_of, tensors, tuple(run.sizes), tuple(run.indices), blocks, tuple(run.refused)
    )
    return _mark_vanishing(model, channels)


def _run(model: Model, blocks: Blocks) -> Labelling:
    run = Labelling(blocks)
    graph = model.proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for value in graph.input:
        run.pinned[value.name] = "a graph input"
    version, sizes = opset(model.proto), cache(lambda: size_values(model.proto, model.shapes))
    for proto in graph.node:
        captured = tuple(name for attribute in proto.attribute for name in captured_names(attribute))
        node = Node(proto, version, constants, model.shapes, captured, sizes)
        for name, labels in zip(proto.output, follow(node, run), strict=True):
            run.tensors[name] = labels
            if labels is None:
                run.pinned.setdefault(name, next((run.pinned[i] for i in proto.input if i in run.pinned), "a constant"))
    for value in graph.output:
        run.lock(run.tensors.get(value.name), f"they are the graph's output {value.name!r}")
        lock_sizes(run, value.name, f"the graph's output {value.name!r} counts them")
    return run


def _mark_vanishing(model: Model, channels: Channels) -> Channels:
    branches = vanishing_branches(model, channels)
    goes_with = {inner: outer for outer, branch in branches.items() for inner in (*branch.inner, outer)}
    groups = tuple(
        replace(group, vanishes_with=goes_with.get(group.id), locked_because=_nothing_smaller(group, goes_with))
        for group in channels.groups
    )
    return replace(channels, groups=groups)


def _nothing_smaller(group: ChannelGroup, goes_with: Mapping[str, str]) -> str | None:
    """Why the group stays as it is, where that is because nothing smaller is left of it but nothing at all."""
    if group.locked_because or group.channels > 1 or group.id in goes_with:
        return group.locked_because
    return "it is a single channel" if group.width == 1 else f"its {group.width} channels can only go together"


def _check_kept(group: ChannelGroup, channels: tuple[int, ...]) -> None:
    numbers = list(channels)
    if not numbers and group.vanishes_with:
        return  # locked ones too, with the branch that they lie in
    if group.locked_because and numbers != list(range(group.channels)):
        raise BadInput(f"Group {group.id!r} cannot be cut: {group.locked_because}.")
    if numbers != sorted(set(numbers)) or (numbers and not 0 <= numbers[0] <= numbers[-1] < group.channels):
        raise BadInput(f"Kept channels of {group.id!r} must be ascending numbers from 0 to {group.channels - 1}.")
    if not numbers:
        raise BadInput(f"Group {group.id!r} cannot lose all its channels: it is no residual branch that may vanish.")
