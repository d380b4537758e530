"""From classes of labels to groups of channels: classes that are used in the same places form one group.

A network reads the same line of labels in many places (a convolution, its batch-norm's four parameters, the activation
after it), so everything here looks at each distinct line once.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.graph.channels import AxisSlice, ChannelGroup, Labels, Read
from pipeline.graph.labels import Labelling, compact

UNWEIGHTED = "no weight makes or reads these channels"
CHUNK_LABELS = 2**22  # lines are compared this many labels at a time, which bounds what sorting them takes

Numbers = NDArray[np.int64]
Place = tuple[int, tuple[tuple[int, int], ...]]


def read_groups(run: Labelling) -> tuple[tuple[ChannelGroup, ...], Numbers, Numbers]:
    """The groups; for every label the number of its group and its channel there. Linear in what the run collected."""
    root = run.classes.find(np.arange(len(run.classes), dtype=np.int32))
    locked, reasons = _locked(run, root)
    inexact = np.zeros(len(root), bool)
    for labels in run.inexact:
        inexact[root[labels]] = True
    members = _members(run, root, locked, inexact)
    group_of_root, channel_of_root = np.full(len(root), -1, np.int64), np.full(len(root), -1, np.int64)
    for number, classes in enumerate(members):
        group_of_root[classes] = number
        channel_of_root[classes] = np.arange(len(classes))
    group_of, channel_of = group_of_root[root], channel_of_root[root]
    slices, reads = _places(run, len(members), group_of, channel_of)
    names = _names(run, root, members)
    groups = []
    for number, classes in enumerate(members):
        lead = next((piece for piece in slices[number] if piece.role == "makes"), None)
        step = int(np.count_nonzero(lead.channel >= 0)) // len(classes) if lead else 1
        weighted = any(piece.role != "rides" for piece in slices[number])
        reason = reasons[locked[classes[0]]] if locked[classes[0]] >= 0 else None if weighted else UNWEIGHTED
        width, exact = len(classes) * step, not inexact[classes[0]]
        groups.append(
            ChannelGroup(names[number], width, step, tuple(slices[number]), tuple(reads[number]), reason, exact)
        )
    return tuple(groups), group_of, channel_of


def _locked(run: Labelling, root: Labels) -> tuple[Numbers, list[str]]:
    """For every class the number of the first reason to lock it, or -1; and the reasons."""
    numbers = {reason: number for number, reason in enumerate(dict.fromkeys(reason for _, reason in run.locks))}
    first = np.full(len(root), -1, np.int64)
    for labels, reason in run.locks:
        classes = root[labels]
        first[classes[first[classes] < 0]] = numbers[reason]
    return first, list(numbers)


def _members(run: Labelling, root: Labels, locked: Numbers, inexact: NDArray[np.bool_]) -> list[Numbers]:
    """The classes of every group: used in the same places equally often, locked for the same reason, equally exact.

    Groups in the order of their first class, classes ascending.
    """
    classes = np.flatnonzero(root == np.arange(len(root)))
    kind = ((_same_use(run, root) * (int(locked.max(initial=0)) + 2) + locked + 1) * 2 + inexact)[classes]
    _, first, numbers = np.unique(kind, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[numbers.reshape(-1)]
    order = np.argsort(rank, kind="stable")
    ends = np.cumsum(np.bincount(rank, minlength=len(first)))
    return np.split(classes[order], ends[:-1]) if len(classes) else []


def _same_use(run: Labelling, root: Labels) -> Numbers:
    """A number for every class, the same for classes in the same parameters, reads and activations, equally often.

    Each place splits what it tells apart. With the activations no tensor can lose all its channels while another of
    the same group keeps some: two slices of one tensor, say, that one layer reads side by side.
    """
    part = np.zeros(len(root), np.int64)
    parts = 1
    activations = (labels for labels in run.tensors.values() if labels is not None)
    lines = _distinct((*(use.labels for use in run.uses), *(read.labels for read in run.reads), *activations))
    for chunk in _chunks(lines):
        lengths = [len(line) for line in chunk]
        found = root[np.concatenate(chunk)].astype(np.int64) * len(chunk) + np.repeat(np.arange(len(chunk)), lengths)
        pairs, counts = np.unique(found, return_counts=True)
        classes, places = np.divmod(pairs, len(chunk))
        starts = np.flatnonzero(np.diff(classes, prepend=-1))
        present = classes[starts]
        uses = np.stack([places, counts], axis=1).tobytes()
        bounds = (np.append(starts, len(pairs)) * (len(uses) // max(1, len(pairs)))).tolist()
        kinds: dict[tuple[int, bytes], int] = {}
        part[present] = [
            kinds.setdefault((before, uses[bounds[n] : bounds[n + 1]]), parts + len(kinds))
            for n, before in enumerate(part[present].tolist())
        ]
        parts += len(kinds)
    return part


def _distinct(lines: Iterable[Labels]) -> Iterator[Labels]:
    """Flat lines, those that are the same memory once."""
    seen: set[Place] = set()
    for labels in lines:
        small = compact(labels)
        place = _place(small)
        if place not in seen:
            seen.add(place)
            yield small.reshape(-1)


def _place(small: Labels) -> Place:
    """Where in memory compact labels lie: arrays in one place hold the same labels."""
    spans = tuple(span for span in zip(small.shape, small.strides, strict=True) if span[0] != 1)
    return small.__array_interface__["data"][0], spans


def _chunks(lines: Iterable[Labels]) -> Iterator[list[Labels]]:
    chunk: list[Labels] = []
    held = 0
    for line in lines:
        chunk.append(line)
        held += len(line)
        if held >= CHUNK_LABELS:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _places(
    run: Labelling, count: int, group_of: Numbers, channel_of: Numbers
) -> tuple[list[list[AxisSlice]], list[list[Read]]]:
    slices: list[list[AxisSlice]] = [[] for _ in range(count)]
    reads: list[list[Read]] = [[] for _ in range(count)]
    known: dict[Place, list[tuple[int, Numbers]]] = {}

    def owners(labels: Labels) -> list[tuple[int, Numbers]]:
        place = _place(labels)
        if place not in known:
            known[place] = _by_owner(group_of[labels], channel_of[labels])
        return known[place]

    for use in run.uses:
        for number, mine in owners(use.labels):
            slices[number].append(AxisSlice(use.tensor, use.axis, mine, use.role))
    for read in run.reads:
        for number, mine in owners(read.labels):
            reads[number].append(Read(read.node, read.input, read.tensor, read.axis, mine, read.statistics))
    return slices, reads


def _by_owner(owners: Numbers, channels: Numbers) -> list[tuple[int, Numbers]]:
    """The groups that own some of the indices, each with its channels there and -1 elsewhere."""
    if len(owners) and (owners == owners[0]).all():
        return [(int(owners[0]), channels)]
    return [(number, np.where(owners == number, channels, -1)) for number in np.unique(owners).tolist()]


def _names(run: Labelling, root: Labels, members: Sequence[Numbers]) -> list[str]:
    """The first activation that carries the group's first channel; numbered where several groups begin in one."""
    first: dict[Place, str] = {}
    born = np.full(len(root), -1, np.int64)
    for name, labels in run.tensors.items():
        small = None if labels is None else compact(labels)
        if small is not None and (place := _place(small)) not in first:
            classes = root[small].reshape(-1)
            born[classes[born[classes] < 0]] = len(first)
            first[place] = name
    carriers = list(first.values())
    seen: Counter[str] = Counter()
    names = []
    for group in members:
        carrier = int(born[group[0]])
        name = carriers[carrier] if carrier >= 0 else f"channels{group[0]}"
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return names
