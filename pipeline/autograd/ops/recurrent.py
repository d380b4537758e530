"""LSTM, GRU and RNN: every direction, initial states, lengths per sequence, peepholes, any activation of the table."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.autograd.node import Node, Operation, Rule
from pipeline.autograd.ops.indexing import reversed_within

Activation = Callable[[Tensor], Tensor]
Cell = Callable[..., tuple[Tensor, ...]]  # x's part of the gates, state..., weights of one direction -> state...

# name -> (function of x, alpha and beta; their defaults)
ACTIVATIONS: dict[str, tuple[Callable[[Tensor, float, float], Tensor], float, float]] = {
    "affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "elu": (lambda x, a, b: F.elu(x, a), 1.0, 0.0),
    "hardsigmoid": (lambda x, a, b: torch.clamp(a * x + b, 0.0, 1.0), 0.2, 0.5),
    "leakyrelu": (lambda x, a, b: F.leaky_relu(x, a), 0.01, 0.0),
    "relu": (lambda x, a, b: torch.relu(x), 0.0, 0.0),
    "scaledtanh": (lambda x, a, b: a * torch.tanh(b * x), 1.0, 1.0),
    "sigmoid": (lambda x, a, b: torch.sigmoid(x), 0.0, 0.0),
    "softplus": (lambda x, a, b: F.softplus(x), 0.0, 0.0),
    "softsign": (lambda x, a, b: F.softsign(x), 0.0, 0.0),
    "tanh": (lambda x, a, b: torch.tanh(x), 0.0, 0.0),
    "thresholdedrelu": (lambda x, a, b: torch.where(x > a, x, torch.zeros_like(x)), 1.0, 0.0),
}
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


def _activations(node: Node, defaults: Sequence[str], directions: int) -> list[list[Activation]]:
    """The functions of each direction; alphas and betas are handed out in order to those that the user named."""
    names = node.attributes.get("activations") or [*defaults] * directions
    alphas, betas = (list(node.attributes.get(f"activation_{name}") or ()) for name in ("alpha", "beta"))
    made: list[Activation] = []
    for name in names:
        if name.lower() not in ACTIVATIONS:
            raise node.refusal(f"activation {name} is unknown")
        function, alpha, beta = ACTIVATIONS[name.lower()]
        alpha = alphas.pop(0) if alphas and alpha else alpha
        beta = betas.pop(0) if betas and (beta or name.lower() == "affine") else beta
        made.append(lambda x, f=function, a=alpha, b=beta: f(x, a, b))  # type: ignore[misc]
    count = len(defaults)
    return [made[start : start + count] for start in range(0, count * directions, count)]


def _clipped(node: Node) -> Activation:
    clip = node.attributes.get("clip", 0.0)
    return (lambda x: torch.clamp(x, -clip, clip)) if clip else (lambda x: x)


def _lstm_cell(node: Node, functions: Sequence[Activation]) -> Cell:
    f, g, h = functions
    clip, coupled = _clipped(node), node.attributes.get("input_forget", 0)

    def cell(x: Tensor, hidden: Tensor, memory: Tensor, r: Tensor, b: Tensor, peep: Tensor) -> tuple[Tensor, ...]:
        i, o, forget, c = (x + hidden @ r.t() + b.reshape(2, -1)[1]).chunk(4, -1)
        peep_i, peep_o, peep_f = peep.chunk(3)
        i = f(clip(i + peep_i * memory))
        forget = 1 - i if coupled else f(clip(forget + peep_f * memory))
        memory = forget * memory + i * g(clip(c))
        return f(clip(o + peep_o * memory)) * h(memory), memory

    return cell


def _gru_cell(node: Node, functions: Sequence[Activation]) -> Cell:
    f, g = functions
    clip, linear = _clipped(node), node.attributes.get("linear_before_reset", 0)

    def cell(x: Tensor, hidden: Tensor, r: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        x_z, x_r, x_h = x.chunk(3, -1)
        r_z, r_r, r_h = r.chunk(3)
        b_z, b_r, b_h = b.reshape(2, -1)[1].chunk(3)
        update = f(clip(x_z + hidden @ r_z.t() + b_z))
        reset = f(clip(x_r + hidden @ r_r.t() + b_r))
        inner = reset * (hidden @ r_h.t() + b_h) if linear else (reset * hidden) @ r_h.t() + b_h
        return ((1 - update) * g(clip(x_h + inner)) + update * hidden,)

    return cell


def _rnn_cell(node: Node, functions: Sequence[Activation]) -> Cell:
    clip = _clipped(node)

    def cell(x: Tensor, hidden: Tensor, r: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return (functions[0](clip(x + hidden @ r.t() + b.reshape(2, -1)[1])),)

    return cell


def _run(
    cell: Cell, x: Tensor, states: tuple[Tensor, ...], weights: tuple[Tensor, ...], lengths: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """All steps of one direction; x (time, batch, gates). Beyond its length a sequence keeps its state, outputs 0."""
    rows = []
    for step, entry in enumerate(x.unbind(0)):
        new = cell(entry, *states, *weights)
        if lengths is None:
            states, row = new, new[0]
        else:
            alive = (step < lengths).reshape(-1, 1)
            states = tuple(torch.where(alive, after, before) for after, before in zip(new, states, strict=True))
            row = torch.where(alive, new[0], torch.zeros_like(new[0]))
        rows.append(row)
    return torch.stack(rows), states


def _recurrent(
    make_cell: Callable[[Node, Sequence[Activation]], Cell], defaults: Sequence[str], gates: int
) -> Callable[[Node], Operation]:
    def build(node: Node) -> Operation:
        direction, layout = node.attributes.get("direction", "forward"), node.attributes.get("layout", 0)
        node.attributes.get("hidden_size")  # the weights say it
        node.attributes.get("output_sequence")  # before opset 7
        if direction not in DIRECTIONS:
            raise node.refusal(f"direction {direction!r} is unknown")
        backwards = DIRECTIONS[direction]
        cells = [make_cell(node, functions) for functions in _activations(node, defaults, len(backwards))]
        states = 2 if gates == 4 else 1

        def apply(x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
            given: list[Any] = [*rest, *[None] * (3 + states - len(rest))]
            b, lengths, more = given[0], given[1], given[2:]
            x = x.transpose(0, 1) if layout else x
            hidden = r.shape[-1]
            zeros = x.new_zeros((len(cells), x.shape[1], hidden))
            firsts = [_first(entry, zeros, layout) for entry in more[:states]]
            extra = [] if gates != 4 else [w.new_zeros((len(cells), 3 * hidden)) if more[2] is None else more[2]]
            b = w.new_zeros((len(cells), 2 * gates * hidden)) if b is None else b
            outputs, lasts = [], []
            for at, (cell, back) in enumerate(zip(cells, backwards, strict=True)):
                start = tuple(first[at] for first in firsts)
                weights = (r[at], b[at], *(entry[at] for entry in extra))
                parts = _turned(x, lengths, back) @ w[at].t() + b[at].reshape(2, -1)[0]
                y, last = _run(cell, parts, start, weights, lengths)
                outputs.append(_turned(y, lengths, back))
                lasts.append(last)
            whole = torch.stack(outputs, 1)
            ends = [torch.stack(entries) for entries in zip(*lasts, strict=True)]
            if layout:
                whole, ends = whole.permute(2, 0, 1, 3), [end.transpose(0, 1) for end in ends]
            return (whole, *ends)

        return apply

    return build


def _first(given: Tensor | None, zeros: Tensor, layout: int) -> Any:
    if given is None:
        return zeros
    return given.transpose(0, 1) if layout else given


def _turned(x: Tensor, lengths: Tensor | None, back: bool) -> Tensor:
    if not back:
        return x
    return x.flip(0) if lengths is None else reversed_within(x, lengths, 1, 0)


RULES: dict[str, Rule] = {
    "GRU": Rule(_recurrent(_gru_cell, ("Sigmoid", "Tanh"), 3), remark="unrolled step by step"),
    "LSTM": Rule(_recurrent(_lstm_cell, ("Sigmoid", "Tanh", "Tanh"), 4), remark="unrolled step by step"),
    "RNN": Rule(_recurrent(_rnn_cell, ("Tanh",), 1), remark="unrolled step by step"),
}
