"""From classes of labels to groups of channels: classes that are used in the same places form one group."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.graph.channels import AxisSlice, ChannelGroup, Labels, Read
from pipeline.graph.labels import Labelling, compact

UNWEIGHTED = "no weight makes or reads these channels"

Numbers = NDArray[np.int64]


def read_groups(run: Labelling) -> tuple[tuple[ChannelGroup, ...], Numbers, Numbers]:
    """The groups; for every label the number of its group and its channel there. Linear in what the run collected."""
    root = run.classes.find(np.arange(len(run.classes), dtype=np.int32))
    members = _members(run, root)
    group_of_root, channel_of_root = np.full(len(root), -1, np.int64), np.full(len(root), -1, np.int64)
    for number, classes in enumerate(members):
        group_of_root[classes] = number
        channel_of_root[classes] = np.arange(len(classes))
    group_of, channel_of = group_of_root[root], channel_of_root[root]
    slices, reads = _places(run, len(members), group_of, channel_of)
    names = _names(run, root, members)
    locked = _by_root(root, run.locked)
    inexact = {int(root[label]) for label in run.inexact}
    groups = []
    for number, classes in enumerate(members):
        lead = next((piece for piece in slices[number] if piece.role == "makes"), None)
        step = int((lead.channel >= 0).sum()) // len(classes) if lead else 1
        weighted = any(piece.role != "rides" for piece in slices[number])
        reason = locked.get(classes[0]) or (None if weighted else UNWEIGHTED)
        exact = classes[0] not in inexact
        groups.append(
            ChannelGroup(
                names[number], len(classes) * step, step, tuple(slices[number]), tuple(reads[number]), reason, exact
            )
        )
    return tuple(groups), group_of, channel_of


def _members(run: Labelling, root: Labels) -> list[list[int]]:
    """The classes of every group: used in the same places equally often, locked for the same reason, equally exact."""
    same_use = _same_use(run, root)
    locked = _by_root(root, run.locked)
    inexact = {int(root[label]) for label in run.inexact}
    groups: dict[tuple[int, str | None, bool], list[int]] = {}
    for member in np.unique(root).tolist():
        groups.setdefault((int(same_use[member]), locked.get(member), member in inexact), []).append(member)
    return list(groups.values())


def _same_use(run: Labelling, root: Labels) -> Numbers:
    """A number for every class, the same for classes in the same parameters, reads and activations, equally often.

    Each place splits what it tells apart. With the activations no tensor can lose all its channels while another of
    the same group keeps some: two slices of one tensor, say, that one layer reads side by side.
    """
    part = np.zeros(len(root), np.int64)
    parts = 1
    activations = (compact(labels).reshape(-1) for labels in run.tensors.values() if labels is not None)
    for line in (*(use.labels for use in run.uses), *(read.labels for read in run.reads), *activations):
        members, counts = np.unique(root[line], return_counts=True)
        _, split = np.unique(np.stack([part[members], counts]), axis=1, return_inverse=True)
        part[members] = parts + split.reshape(-1)
        parts += int(split.max()) + 1 if len(split) else 0
    return part


def _places(
    run: Labelling, count: int, group_of: Numbers, channel_of: Numbers
) -> tuple[list[list[AxisSlice]], list[list[Read]]]:
    slices: list[list[AxisSlice]] = [[] for _ in range(count)]
    reads: list[list[Read]] = [[] for _ in range(count)]
    for use in run.uses:
        owners, channels = group_of[use.labels], channel_of[use.labels]
        for number in np.unique(owners).tolist():
            slices[number].append(AxisSlice(use.tensor, use.axis, np.where(owners == number, channels, -1), use.role))
    for read in run.reads:
        owners, channels = group_of[read.labels], channel_of[read.labels]
        for number in np.unique(owners).tolist():
            mine = np.where(owners == number, channels, -1)
            reads[number].append(Read(read.node, read.input, read.tensor, read.axis, mine, read.statistics))
    return slices, reads


def _by_root(root: Labels, reasons: Mapping[int, str]) -> dict[int, str]:
    found: dict[int, str] = {}
    for label, reason in reasons.items():
        found.setdefault(int(root[label]), reason)
    return found


def _names(run: Labelling, root: Labels, members: list[list[int]]) -> list[str]:
    """The first activation that carries the group's first channel; numbered where several groups begin in one."""
    carriers = [(name, labels) for name, labels in run.tensors.items() if labels is not None]
    born = np.full(len(root), -1, np.int64)
    for number, (_, labels) in enumerate(carriers):
        classes = root[compact(labels)].reshape(-1)
        born[classes[born[classes] < 0]] = number
    seen: Counter[str] = Counter()
    names = []
    for group in members:
        first = int(born[group[0]])
        name = carriers[first][0] if first >= 0 else f"channels{group[0]}"
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return names
