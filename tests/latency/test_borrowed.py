"""Rows of another stack: measured anew unless borrowing is asked for, and then said."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.cli.options import BORROWABLE as OFFERED
from pipeline.graph.model import save
from targets.profiles.borrow import BORROWABLE
from targets.profiles.search import Wanted, find_keys
from targets.profiles.store import ProfileStore
from tests.latency.conftest import Profiled


@pytest.fixture
def elsewhere(profiled: Profiled, tmp_path: Path) -> Path:
    """The rows of the profiled network, as if an older runtime had made them."""
    keys = profiled.store.database.read(lambda connection: find_keys(connection, Wanted()))
    path = tmp_path / "elsewhere.sqlite"
    older = [
        dataclasses.replace(row, key=dataclasses.replace(row.key, stack={**row.key.stack, "version": "0.1"}))
        for rows in profiled.store.find(list(keys)).values()
        for row in rows
    ]
    ProfileStore(path).add(dataclasses.replace(row, taken_at="2020-01-01T00:00:00Z") for row in older)
    save(profiled.model, tmp_path / "net.onnx")
    return path


def profile(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["profile", str(path.parent / "net.onnx"), "--db", str(path), "--json", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.slow
def test_rows_of_another_stack_are_used_only_when_asked_for_and_said(
    elsewhere: Path, profiled: Profiled, capsys: pytest.CaptureFixture[str]
) -> None:
    lent = profile(elsewhere, capsys, "--borrow", "stack")
    assert lent["reused"] > 0
    (loan,) = lent["borrowed"]["loans"]
    version = next(iter(profiled.store.summary())).stack["version"]
    assert loan["differs"] == [{"path": "stack.version", "theirs": "0.1", "ours": version}]
    assert lent["borrowed"]["kernels"] == loan["kernels"] > 0
    assert loan["newest"] == "2020-01-01T00:00:00Z"

    anew = profile(elsewhere, capsys)
    assert anew["borrowed"] == {"kernels": 0, "loans": []}
    assert anew["built"] > 0

    assert profile(elsewhere, capsys, "--borrow", "stack")["borrowed"]["kernels"] < lent["borrowed"]["kernels"]


def test_what_was_borrowed_is_printed(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", str(elsewhere.parent / "net.onnx"), "--db", str(elsewhere), "--borrow", "stack"]) == 0
    assert "kernels were timed elsewhere: stack.version 0.1, here" in capsys.readouterr().out


def test_what_cannot_be_borrowed_over_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert OFFERED == BORROWABLE
    assert main(["profile", "net.onnx", "--borrow", "op"]) == 2
    assert "--borrow 'op' is none of stack, regime, device" in capsys.readouterr().err
