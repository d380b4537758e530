"""First-order criteria (Molchanov et al. 2017 and 2019).

Both look where a group's channels are *read* (`group.reads`): there the masked original zeroes a removed channel, so
the first-order estimate is of exactly that removal.
"""

from collections.abc import Callable, Sequence, Sized
from functools import partial
from typing import Any

import torch
from torch import Tensor

from calibration.batches import Batch
from pipeline.autograd import OnnxModule
from pipeline.graph.channels import ChannelGroup, Read
from pipeline.importance.criteria import Request, Scores
from pipeline.importance.loss import Loss, as_tensors
from targets.errors import BadInput

Observe = Callable[[Tensor, Tensor], None]  # (activation z, dL/dz), both as the reader sees them


def activation(request: Request) -> Scores:
    """Mean over examples of abs( mean over positions of dL/dz * z ), summed over the reads (Molchanov 2017, eq. 8).

    L is each example's own loss, so the scores do not depend on the batch size. A channel's positions are all places
    of the read tensor that belong to it, spatial or, after a flatten, several indices of the axis. Locked groups are
    left out: nothing says that their reads have a batch axis.
    """
    totals = _zeros(request)
    examples = 0
    for batch, run in _passes(request):
        count = len(next(iter(batch.inputs.values())))
        examples += count

        def observe(group: ChannelGroup, read: Read, z: Tensor, gradient: Tensor, count: int = count) -> None:
            products = _by_example(z * gradient, read, count)
            per_channel, positions = _by_channel(products.sum(2), read, group.channels)
            means = per_channel / (positions * products.shape[2]).clamp_min(1)
            totals[group.id] += means.abs().sum(0)

        run(observe, torch.sum)
    return {name: (total / max(examples, 1)).numpy() for name, total in totals.items()}


def gate(request: Request) -> Scores:
    """Sum over batches of (dL/dg)^2, g a gate of 1 that all reads of a channel share (Molchanov 2019, eq. 8).

    L is the mean loss of the batch. dL/dg is the sum of dL/dz * z over reads, examples and positions. Locked groups are
    left out.
    """
    totals = _zeros(request)
    for batch, run in _passes(request):
        count = len(next(iter(batch.inputs.values())))
        gradients = _zeros(request)

        def observe(
            group: ChannelGroup,
            read: Read,
            z: Tensor,
            gradient: Tensor,
            count: int = count,
            gradients: dict[str, Tensor] = gradients,
        ) -> None:
            per_channel, _ = _by_channel(_by_example(z * gradient, read, count).sum((0, 2))[None], read, group.channels)
            gradients[group.id] += per_channel[0]

        run(observe, torch.mean)
        for name, value in gradients.items():
            totals[name] += value.square()
    return {name: total.numpy() for name, total in totals.items()}


def _zeros(request: Request) -> dict[str, Tensor]:
    return {group.id: torch.zeros(group.channels, dtype=torch.float64) for group in _unlocked(request)}


def _unlocked(request: Request) -> list[ChannelGroup]:
    return [group for group in request.groups if group.locked_because is None]


GroupObserve = Callable[[ChannelGroup, Read, Tensor, Tensor], None]
Run = Callable[[Callable[..., None], Callable[[Tensor], Tensor]], None]


def _passes(request: Request) -> Any:
    """For each batch: the batch, and a function that runs it forward and backward and shows every read's (z, dL/dz)."""
    module = OnnxModule(request.proto).requires_grad_(False)
    groups = _unlocked(request)
    _check_reads(groups)
    loss = Loss(request.proto, request.seed)
    total = len(request.batches) if isinstance(request.batches, Sized) else 0
    done = 0
    for batch in request.batches:
        yield batch, partial(_run, module, groups, loss, batch)
        done += 1
        request.on_progress(done, total, "importance")
    if done == 0:
        raise BadInput("The data holds no batch to score channels with. Give at least one example.")


def _check_reads(groups: Sequence[ChannelGroup]) -> None:
    for group in groups:
        for read in group.reads:
            if read.axis == 0:
                raise BadInput(
                    f"Node {read.node} reads group {group.id} along axis 0, where examples are expected. "
                    f"Take --criterion l2."
                )


def _run(
    module: OnnxModule,
    groups: Sequence[ChannelGroup],
    loss: Loss,
    batch: Batch,
    observe: GroupObserve,
    reduce: Callable[[Tensor], Tensor],
) -> None:
    readers: dict[tuple[str, int], list[Observe]] = {}
    for group in groups:
        for read in group.reads:
            readers.setdefault((read.node, read.input), []).append(partial(observe, group, read))
    anchor = torch.zeros((), requires_grad=True)
    taps = {at: partial(_watch, anchor=anchor, observers=tuple(those)) for at, those in readers.items()}
    with torch.enable_grad(), module.tap(taps):
        outputs = module(**as_tensors(batch))
        value = reduce(loss(outputs, loss.targets(outputs, batch.labels)))
    if not torch.isfinite(value):
        raise BadInput("The network's loss on this data is not finite. Check the data's scale and the weights.")
    if value.requires_grad:  # nothing was read on the way to the output where it does not
        torch.autograd.backward(value, inputs=[anchor])


def _watch(z: Tensor, *, anchor: Tensor, observers: tuple[Observe, ...]) -> Tensor:
    watched: Tensor = _Watch.apply(z, anchor, observers)
    return watched


class _Watch(torch.autograd.Function):
    """The identity; on the way back it shows z and dL/dz. Keeps z itself, not a copy.

    The anchor requires a gradient, so the way back comes here though no parameter does.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, anchor: Tensor, observers: tuple[Observe, ...]) -> Tensor:
        ctx.save_for_backward(z)
        ctx.observers = observers
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (z,), (gradient,) = ctx.saved_tensors, gradients
        for observe in ctx.observers:
            observe(z.detach(), gradient)
        return gradient, torch.zeros((), device=gradient.device), None


def _by_example(products: Tensor, read: Read, examples: int) -> Tensor:
    """To shape (examples, axis, positions); examples may have been merged with other axes behind them."""
    if products.shape[0] % examples:
        raise BadInput(f"Node {read.node} reads {tuple(products.shape)}, which no batch of {examples} leads. Take l2.")
    split = products.reshape(examples, products.shape[0] // examples, *products.shape[1:])
    return split.movedim(read.axis + 1, 1).flatten(2).double()


def _by_channel(values: Tensor, read: Read, channels: int) -> tuple[Tensor, Tensor]:
    """Sums (rows, axis) over the indices of each channel: (rows, channels), and how many indices each has."""
    index = torch.from_numpy(read.channel).to(values.device)
    own = index >= 0
    summed = torch.zeros(len(values), channels, dtype=values.dtype, device=values.device)
    summed.index_add_(1, index[own], values[:, own])
    return summed.cpu(), torch.bincount(index[own], minlength=channels).cpu()
