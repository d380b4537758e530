"""What a rule cannot follow it locks, with a reason a person can read; everything else is cut."""

from typing import Any

import numpy as np
import pytest

from tests.graph.small import coupled, ints

IMAGE = "float[1,3,4,4] x"
READ = "y = Conv(b, v)"

# What stands between two convolutions, the weights where they are not (4, 3, 1, 1) and (2, 4, 1, 1), and the reason.
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "unknown operator": ("b = own.Strange(a)", {}, "own.Strange (Strange_b) is an operator without a coupling rule"),
    "fixed operand": (
        "b = Add(a, x)", {"w": (3, 3, 1, 1), "v": (2, 3, 1, 1)},
        "meets 'x' in Add (Add_b), which is fixed: a graph input",
    ),
    "single channel": (
        "b = Gather<axis = 1>(a, i)", {"i": np.asarray(1, np.int64), "v": (4, 2), "read": "y = MatMul(b, v)"},
        "picks a single channel",
    ),
    "every other channel": (
        "b = Slice(a, s, e, s, t)", {"s": ints(1), "e": ints(4), "t": ints(2), "v": (2, 2, 1, 1)},
        "it takes every so many channels",
    ),
    "mirrored channels": (
        'b = Pad<mode = "reflect">(a, n)', {"n": ints(0, 1, 0, 0, 0, 1, 0, 0), "v": (2, 6, 1, 1)},
        "it mirrors channels",
    ),
    "numbered channels": ("i = ArgMax<axis = 1>(a) c = Cast<to = 1>(i) b = Mul(a, c)", {}, "numbers the channels"),
    "channels by channels": (
        "q = Reshape(a, r) t = Transpose<perm = [0, 2, 1]>(q) b = MatMul(q, t)",
        {"r": ints(1, 4, 16), "v": (4, 2), "read": "y = MatMul(b, v)"}, "makes a table of channels by channels",
    ),
    "product with what is fixed": (
        "q = Reshape(a, r) t = Transpose<perm = [0, 2, 1]>(q) z = Reshape(x, s) b = MatMul(t, z)",
        {"r": ints(1, 4, 16), "s": ints(1, 4, 12), "v": (12, 2), "read": "y = MatMul(b, v)"},
        "sums over them with 'z', which is fixed: a graph input",
    ),
    "beside what is fixed": (
        "q = Reshape(a, r) z = Reshape(x, s) b = Concat<axis = 2>(q, z)",
        {"r": ints(1, 4, 16), "s": ints(1, 4, 12), "v": (28, 2), "read": "y = MatMul(b, v)"},
        "'z' beside them in Concat (Concat_b) is fixed: a graph input",
    ),
    "broadcast channel": ("c = Conv(a, o) b = Mul(a, c)", {"o": (1, 4, 1, 1)}, "one channel is broadcast over all"),
    "grouped over the input": (
        "c = Conv<group = 3>(x, o) b = Add(a, c)",
        {"w": (3, 3, 1, 1), "o": (3, 1, 1, 1), "v": (2, 3, 1, 1)}, "grouped over a fixed input: a graph input",
    ),
    "part without elements": (
        "b = Concat<axis = 2>(a, k)", {"k": (1, 4, 0, 4)}, "joins a part without elements",
    ),
    "constant part": (
        "b = Concat<axis = 1>(a, k)", {"k": (1, 2, 4, 4), "v": (2, 6, 1, 1)}, "'k' in Concat (Concat_b) is fixed"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_followed_is_locked_with_its_reason(case) -> None:
    body, weights, reason = CASES[case]
    weights = {"w": (4, 3, 1, 1), "v": (2, 4, 1, 1)} | weights
    _, _, groups = coupled(IMAGE, f"a = Conv(x, w) {body} {weights.pop('read', READ)}", **weights)
    assert any(reason in (group.locked_because or "") for group in groups.values())


def test_one_unknown_operator_does_not_stop_the_rest() -> None:
    body = "a = Conv(x, w) b = Conv(a, v) c = own.Strange(b) y = Conv(c, u)"
    _, _, groups = coupled(IMAGE, body, w=(4, 3, 1, 1), v=(4, 4, 1, 1), u=(2, 4, 1, 1))
    assert groups["a"].locked_because is None
    assert "own.Strange" in (groups["b"].locked_because or "")
