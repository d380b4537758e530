"""`cutback db` and what stands after it, as a user calls it."""

import datetime as dt
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from pipeline.cli import main
from pipeline.cli.db import EXAMPLES, SUBCOMMANDS
from pipeline.cli.db_tables import age, kernel_text
from pipeline.latency.stairs import right_edges
from targets.profiles.key import KernelKey
from targets.profiles.store import ProfileStore, Row

DEVICE = {"cpu": "A processor", "cores": 2}
TIMES = {8: 100, 16: 101, 24: 200, 32: 201, 40: 300}


def key_of(width: int, version: str = "1.0", op: str = "Conv") -> KernelKey:
    stack = {"runtime": "some", "version": version}
    document = {"op": op, "kernel": [3, 3], "other": 64, "width": width}
    return KernelKey(DEVICE, stack, {"threads": 1}, document, {"timing": 1, "place": "staircase"})


@pytest.fixture
def db(tmp_path: Path) -> str:
    path = tmp_path / "profiles.sqlite"
    ProfileStore(path).add(
        Row(key_of(width), (1000 * us,) * 3, "s", taken_at="2026-01-01T00:00:00Z") for width, us in TIMES.items()
    )
    ProfileStore(path).add([Row(key_of(8, "2.0", "Gemm"), (5000,), "t", taken_at="2026-02-01T00:00:00Z")])
    return str(path)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> str:
        assert main(["db", *arguments]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return run


@pytest.mark.parametrize("command", SUBCOMMANDS)
def test_every_subcommand_has_help_with_an_example_of_its_own(command: str, said) -> None:
    out = said(command, "--help")
    assert "Example" in out
    assert EXAMPLES[command][0] in out


def test_alone_and_as_list_it_shows_each_stack_with_its_kernels_and_age(db: str, said) -> None:
    for arguments in (["--db", db], ["list", "--db", db], ["--db", db, "list"]):
        out = said(*arguments)
        assert "A processor" in out
        assert out.index("version 2.0") < out.index("version 1.0")  # the newest first
        assert "staircase 5" in out
        assert "ago" in out
    newest, oldest = json.loads(said("--db", db, "--json"))
    assert (newest["stack"]["version"], newest["kernels"], newest["sessions"]) == ("2.0", 1, 1)
    assert (oldest["kernels"], oldest["rows"], oldest["timed"]) == (5, 5, {"staircase": 5})
    assert json.loads(said("--json", "list", "--db", db)) == [newest, oldest]


def test_kernels_are_chosen_by_operator_device_and_stack(db: str, said) -> None:
    out = said("kernels", "--db", db)
    assert "Kernels (6 of 6)" in out
    assert "stack.version 1.0" in out  # what tells the stacks apart, and nothing else
    assert "A processor" not in out
    found = json.loads(said("kernels", "--db", db, "--op", "conv", "--limit", "2", "--json"))
    assert (found["total"], len(found["kernels"])) == (5, 2)
    assert {kernel["rows"] for kernel in found["kernels"]} == {1}
    (gemm,) = json.loads(said("kernels", "--db", db, "--stack", "2.0", "--device", "a PROCESSOR", "--json"))["kernels"]
    assert (gemm["key"]["op"]["op"], gemm["best_ns"], gemm["newest"]) == ("Gemm", 5000, "2026-02-01T00:00:00Z")
    assert gemm["digest"] == key_of(8, "2.0", "Gemm").digest
    assert "No such kernel" in said("kernels", "--db", db, "--op", "Relu")


def test_a_staircase_is_drawn_with_its_right_edges(db: str, said) -> None:
    assert "width *" in said("stairs", "--db", db)
    (family,) = json.loads(said("stairs", "--db", db, "--json"))["families"]
    assert family["widths"] == list(TIMES)
    drawn = said("stairs", family["id"][:4], "--db", db).splitlines()
    marked = [int(line.split()[0]) for line in drawn if "right edge" in line]
    assert marked == list(right_edges(list(TIMES), list(map(float, TIMES.values())))) == [16, 32, 40]
    bars = {int(line.split()[0]): line.count("█") + line.count("#") for line in drawn if {"█", "#"} & set(line)}
    assert bars[8] < bars[24] < bars[40]
    steps = json.loads(said("stairs", family["id"], "--db", db, "--json"))["steps"]
    assert [(step["width"], step["us"], step["edge"]) for step in steps] == [
        (width, us, width in marked) for width, us in TIMES.items()
    ]


def test_times_of_sessions_at_different_speeds_are_brought_to_one(said, tmp_path: Path) -> None:
    path, fast, slow = tmp_path / "gauged.sqlite", 1000, 2000
    ProfileStore(path).add(
        Row(key_of(width), (level * times,) * 5, str(level), 0, {"gauge_ns": [level] * 5, "calm": []})
        for level, widths in ((fast, {8: 3, 24: 9}), (slow, {16: 6}))
        for width, times in widths.items()
    )
    (family,) = json.loads(said("stairs", "--db", str(path), "--json"))["families"]
    steps = json.loads(said("stairs", family["id"], "--db", str(path), "--json"))["steps"]
    usual_us = fast / 1000  # two rows of three were taken at this speed
    assert [step["us"] for step in steps] == pytest.approx([3 * usual_us, 6 * usual_us, 9 * usual_us])


def test_a_staircase_is_drawn_into_a_file(db: str, said, tmp_path: Path) -> None:
    for suffix, begins in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        path = tmp_path / "pictures" / f"stairs{suffix}"
        assert f"written {path}" in said("stairs", "--op", "Conv", "-o", str(path), "--db", db)
        assert path.read_bytes().startswith(begins)
    ET.parse(tmp_path / "pictures" / "stairs.svg")
    assert sorted(path.suffix for path in (tmp_path / "pictures").iterdir()) == [".pdf", ".png", ".svg"]


def test_an_exported_database_merges_into_another(db: str, said, tmp_path: Path) -> None:
    file, other = str(tmp_path / "all.jsonl.gz"), str(tmp_path / "other.sqlite")
    assert "6 rows of 6 kernels from 2 sessions" in said("export", file, "--db", db)
    assert "2 of 2" in said("merge", file, "--db", other)
    (again,) = json.loads(said("merge", file, "--db", other, "--json"))
    assert again["new"] == {"sessions": 0, "keys": 0, "rows": 0}
    assert json.loads(said("--db", other, "--json")) == json.loads(said("--db", db, "--json"))
    part = json.loads(said("export", str(tmp_path / "part.jsonl"), "--stack", "2.0", "--db", db, "--json"))
    assert (part["sessions"], part["rows"]) == (1, 1)
    assert "sound: 6 rows" in said("check", "--db", other)


def test_what_is_not_sound_is_status_1(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    import sqlite3

    with sqlite3.connect(db) as raw:
        raw.execute("UPDATE samples SET samples_ns = '[]' WHERE digest = ?", [key_of(16).digest])
    raw.close()
    assert main(["db", "check", "--db", db]) == 1
    assert "has no times" in capsys.readouterr().out
    assert main(["db", "check", "--db", db, "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["stairs", "ffff"], "There is no staircase ffff"),
        (["stairs", "--op", "Conv", "-o", "stairs.txt"], "stairs.txt is no picture"),
        (["stairs", "--limit", "-1"], "--limit"),
        (["merge"], "Missing argument"),
        (["merge", "good.jsonl", "missing.jsonl"], "Before it, good.jsonl was merged"),
        (["export"], "Missing argument 'FILE'"),
        (["export", "profiles.sqlite"], "is no export"),
        (["forget"], "No such command 'forget'"),
        (["kernels", "--db", "ftp://nowhere/x"], "ftp"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(
    db: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(Path(db).parent)
    monkeypatch.setenv("CUTBACK_DB", db)
    assert main(["db", "export", "good.jsonl"]) == 0
    capsys.readouterr()
    assert main(["db", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("cutback: error: ")
    assert says in line


def test_a_kernel_is_told_in_one_line() -> None:
    op = {"family": {"ops": ["Conv", "Relu"], "shapes": [[1, "C", 8, 8]], "none": None}, "widths": [3, 16], "zero": 0}
    assert kernel_text(op) == "Conv+Relu, widths 3x16, shapes 1xCx8x8, zero 0"
    assert kernel_text({"network": "0f"}) == "whole network, network 0f"


def test_ages_are_told_in_the_largest_unit() -> None:
    now = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    told = {
        "2026-02-28T23:59:30Z": "just now",
        "2026-02-28T23:58:00Z": "2 minutes ago",
        "2026-02-28T00:00:00Z": "1 day ago",
    }
    assert {text: age(text, now) for text in told} == told
    assert age("2024-01-01T00:00:00Z", now) == "2 years ago"
    assert age("2027-01-01T00:00:00Z", now) == "2027-01-01T00:00:00Z"  # a clock that is wrong is not explained away
    assert age("yesterday", now) == "yesterday"
