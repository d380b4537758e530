"""If, Loop and Scan: Python decides and repeats, torch differentiates what was run."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.autograd.node import Body, Node, Operation, Rule, Value
from pipeline.autograd.sizes import Sizes

Run = Callable[[Body, Sequence[Value]], tuple[Value, ...]]
UNBOUNDED = 2**63 - 1


def _tensor(value: Value) -> Any:
    return value.tensor() if isinstance(value, Sizes) else value


def _if(node: Node) -> Operation:
    def apply(run: Run, condition: Sizes) -> tuple[Value, ...]:
        return run(node.bodies["then_branch" if condition.entries[0] else "else_branch"], ())

    return apply


def _loop(node: Node) -> Operation:
    body = node.bodies["body"]
    carried = len(body.inputs) - 2

    def apply(run: Run, count: Sizes | None, condition: Sizes | None, *state: Value) -> tuple[Value, ...]:
        most = UNBOUNDED if count is None else count.ints[0]
        again, done, scanned = condition is None or bool(condition.entries[0]), 0, []
        while again and done < most:
            number = Sizes((), (done,), torch.int64)
            going, *results = run(body, (number, Sizes((), (True,), torch.bool), *state))
            state, rows = tuple(results[:carried]), results[carried:]
            scanned.append([_tensor(row) for row in rows])
            again, done = bool(_tensor(going)), done + 1
        if not scanned and len(body.outputs) > 1 + carried:
            raise node.refusal("it does not run once, and its outputs have no shape then")
        return (*state, *(torch.stack(rows) for rows in zip(*scanned, strict=True)))

    return apply


def _scan(node: Node) -> Operation:
    body, count = node.bodies["body"], node.attributes.get("num_scan_inputs")
    states = len(body.inputs) - count
    made = len(body.outputs) - states
    get = node.attributes.get
    axes = get("scan_input_axes") or [0] * count
    backwards = get("scan_input_directions") or [0] * count
    out_axes, out_backwards = get("scan_output_axes") or [0] * made, get("scan_output_directions") or [0] * made

    def apply(run: Run, *given: Value) -> tuple[Value, ...]:
        state: tuple[Value, ...] = given[:states]
        scanned = [_tensor(entry) for entry in given[states:]]
        steps = scanned[0].shape[axes[0]]
        rows: list[list[Tensor]] = []
        for step in range(steps):
            entries = [
                x.select(axis, steps - 1 - step if back else step)
                for x, axis, back in zip(scanned, axes, backwards, strict=True)
            ]
            results = run(body, (*state, *entries))
            state = results[:states]
            rows.append([_tensor(row) for row in results[states:]])
        outputs = [
            torch.stack(column[::-1] if back else column, axis)
            for column, axis, back in zip(map(list, zip(*rows, strict=True)), out_axes, out_backwards, strict=True)
        ]
        return (*state, *outputs)

    return apply


def _sequence_map(node: Node) -> Operation:
    body = node.bodies["body"]

    def apply(run: Run, first: list[Tensor], *others: Value) -> tuple[list[Tensor], ...]:
        columns = [entry if isinstance(entry, list) else [entry] * len(first) for entry in (first, *others)]
        rows = [run(body, entries) for entries in zip(*columns, strict=True)]
        return tuple([_tensor(entry) for entry in column] for column in zip(*rows, strict=True))

    return apply


TRACED = "runs as Python does: torch.compile and torch.export trace it only where nothing hangs on tensors' values"
RULES: dict[str, Rule] = {
    "If": Rule(_if, sizes=frozenset({0}), runs=True, remark=TRACED),
    "Loop": Rule(_loop, sizes=frozenset({0, 1}), runs=True, remark=TRACED),
    "SequenceMap": Rule(_sequence_map, runs=True),
    "Scan": Rule(_scan, runs=True, since=9, remark="unrolled by torch.compile and torch.export"),
}
