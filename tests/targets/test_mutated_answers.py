"""Real answers with something changed at random: either they still make sense, or one line says that they do not."""

import copy
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from targets import answers
from targets.connection import connect
from targets.errors import CutbackError
from targets.foreign_json import parsed
from tests.targets.hostile import Honest, drive, plan_of, result, sent, write_plan
from tests.targets.models import residual, saved

SEED = 7
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e308, "", "x", "x" * 70_000, "\x1b[2J", "../../x",
    "/etc/passwd", "\ud800", [], {}, [[]], [None], {"": None}, [1] * 5000, {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}},
)  # fmt: skip


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in it."""
    if isinstance(value, dict):
        for key in value:
            yield value, key
            yield from places(value[key])
    elif isinstance(value, list):
        for index, each in enumerate(value[:50]):
            yield value, index
            yield from places(each)


def mutated(told: Any, rng: random.Random) -> Any:
    root = {"": copy.deepcopy(told)}
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        container, key = rng.choice(list(places(root)))
        kind = rng.randrange(4)
        if kind == 0 and container is not root:
            container.pop(key)
        elif kind == 1 and isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]))
        elif kind == 2:
            others = list(places(root))
            other, name = rng.choice(others)
            container[key] = copy.deepcopy(other[name])
        else:
            container[key] = copy.deepcopy(rng.choice(VALUES))
    return root[""]


def damaged(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(min(len(data) // 16, rng.choice((1, 2, 8, 64)))):
        at = rng.randrange(len(changed))
        kind = rng.randrange(4)
        if kind == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at] = rng.choice((0, 0x7F, 0x80, 0xFF))
        elif kind == 2:
            del changed[at : at + rng.randrange(1, 9)]
        else:
            changed[at:at] = changed[at : at + rng.randrange(1, 9)]
    return bytes(changed)


def finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(finite, value))
    return not isinstance(value, str) or value.isprintable() if not isinstance(value, float) else math.isfinite(value)


COUNTS = [pytest.param(60, id="60"), pytest.param(2000, id="2000", marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", COUNTS)
def test_a_device_that_is_not_itself_is_refused_or_plain(honest: Honest, count: int) -> None:
    rng = random.Random(SEED)
    refused = 0
    for _ in range(3 * count):
        line = json.dumps(mutated(honest.results["device"], rng)).encode()
        line = damaged(line, rng) if rng.random() < 0.3 else line
        try:
            device, reads = answers.device_from(parsed(line))
        except ValueError:
            refused += 1
            continue
        assert finite(device.as_dict())
        assert type(device.emulated) is bool
        assert reads.opset > 0
    assert 0 < refused < 3 * count


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("verb", ["describe", "time", "profile"])
def test_answers_that_were_changed(honest: Honest, impatient: Path, tmp_path: Path, verb: str, count: int) -> None:
    rng = random.Random(SEED)
    steps = {"in turn": [[result(mutated(honest.results[verb], rng))] for _ in range(count)]}
    plan = {**plan_of(honest, "fetch", sent(honest.graph)), verb: steps}
    judge(plan, verb, count, tmp_path, impatient)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("verb", ["run", "profile"])
def test_files_that_were_damaged(honest: Honest, impatient: Path, tmp_path: Path, verb: str, count: int) -> None:
    rng = random.Random(SEED)
    original = (honest.graph if verb == "profile" else honest.outputs).read_bytes()
    turns = []
    for number in range(count):
        path = tmp_path / f"file-{number}"
        path.write_bytes(damaged(original, rng))
        turns.append(sent(path))
    judge({**plan_of(honest, "fetch", []), "fetch": {"in turn": turns}}, verb, count, tmp_path, impatient)


def judge(plan: Any, verb: str, count: int, folder: Path, here: Path) -> None:
    """Asked `count` times, every answer is used or is one line; some are each."""
    model = saved(residual(), folder / "m.onnx")
    lines = []
    with connect(write_plan(plan, folder / "plan.json")) as device:
        for _ in range(count):
            try:
                drive(device, verb, model, here / "engine")
            except CutbackError as failure:
                lines.append(str(failure))
    assert 0 < len(lines) < count
    assert all(line.isprintable() and len(line) < 1000 for line in lines)
