"""The table of bad input: each is one clear line on standard error, a status, and nothing half-written."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from pipeline.cli import main
from tests.digits import SIDE, Digits, command

PRUNE = ["prune", "{model}", "-o", "{out}/cut.onnx", "--plan", "{out}/plan.json", "--masked", "{out}/masked.onnx"]
COMPRESS = ["compress", "{model}", "-o", "{out}", "--quick", "--sessions", "2", "--db", "{tmp}/own.sqlite"]
LATENCY = [*COMPRESS, "--goal", "latency<=0.5x", "--data", "{train}", "--validate", "{test}"]
PAPER = [*COMPRESS, "--goal", "flops<=0.5x"]


@dataclass(frozen=True)
class Case:
    """Arguments over {model}, {out}, {tmp}, {train}, {test}; `files` are made in {tmp} first."""

    arguments: list[str]
    says: str
    status: int = 2
    make: Callable[[Path, Digits], None] | None = None


def writes(name: str, content: bytes) -> Callable[[Path, Digits], None]:
    def make(tmp: Path, digits: Digits) -> None:
        (tmp / name).write_bytes(content)

    return make


def truncated(share: float) -> Callable[[Path, Digits], None]:
    def make(tmp: Path, digits: Digits) -> None:
        content = digits.network.read_bytes()
        (tmp / "bad.onnx").write_bytes(content[: int(share * len(content))])

    return make


def samples(**arrays: object) -> Callable[[Path, Digits], None]:
    """bad.npz: pictures and labels as they should be, but for what is given."""

    def make(tmp: Path, digits: Digits) -> None:
        right = {"image": np.zeros((80, 1, SIDE, SIDE), np.float32), "labels": np.arange(80) % 10}
        given = {name: values for name, values in {**right, **arrays}.items() if values is not None}
        np.savez(tmp / "bad.npz", **given)  # type: ignore[arg-type]

    return make


def strange_plan(tmp: Path, digits: Digits) -> None:
    """A plan of another network: its groups are called otherwise."""
    (tmp / "plan.json").write_text('{"groups": [{"id": "stranger", "channels": [0]}]}')


def with_nan(tmp: Path, digits: Digits) -> None:
    values = np.zeros((80, 1, SIDE, SIDE), np.float32)
    values[7, 0, 3, 3] = np.nan
    samples(image=values)(tmp, digits)


def no_nodes(tmp: Path, digits: Digits) -> None:
    empty = onnx.helper.make_graph([], "empty", [], [])
    (tmp / "bad.onnx").write_bytes(onnx.helper.make_model(empty).SerializeToString())


def pruned(model: str) -> list[str]:
    return ["prune", model, "-o", "{out}/cut.onnx"]


BAD = "{tmp}/bad.onnx"
HALF = ["--goal", "flops<=0.5x"]
PREDICT = ["predict", "{model}", "--plan", "{tmp}/plan.json"]
BAD_DATA = [*PAPER, "--data", "{tmp}/bad.npz", "--validate", "{test}", "--epochs", "1"]
CASES = {
    # the model
    "truncated": Case(["inspect", BAD], "bad.onnx", make=truncated(0.5)),
    "truncated near its end": Case([*pruned(BAD), "--keep", "0.5"], "bad.onnx", make=truncated(0.9999)),
    "truncated for compress": Case(["compress", BAD, *HALF, "-o", "{out}"], "bad.onnx", make=truncated(0.3)),
    "truncated for measure": Case(["measure", "{model}", BAD, "--quick"], "bad.onnx", make=truncated(0.5)),
    "empty file": Case(["inspect", BAD], "is empty", make=writes("bad.onnx", b"")),
    "directory": Case(["inspect", "{tmp}"], "is a directory"),
    "text": Case(["inspect", BAD], "bad.onnx", make=writes("bad.onnx", b"This is a text, and no network.\n" * 9)),
    "html": Case(["inspect", BAD], "bad.onnx", make=writes("bad.onnx", b"<!DOCTYPE html><html>404</html>")),
    "no graph": Case(["inspect", BAD], "bad.onnx", make=no_nodes),
    "missing": Case(["inspect", "{tmp}/nowhere.onnx"], "does not exist"),
    "missing for prune": Case([*pruned("{tmp}/nowhere.onnx"), "--keep", "0.5"], "does not exist"),
    "missing for compress": Case(["compress", "{tmp}/nowhere.onnx", *HALF, "-o", "{out}"], "does not exist"),
    "missing for profile": Case(["profile", "{tmp}/nowhere.onnx"], "does not exist"),
    "no such torch source": Case(["inspect", "nowhere.at.all:network", "--shape", "x=1,3,8,8"], "nowhere"),
    # shapes
    "shape of another rank": Case(["inspect", "{model}", "--shape", "image=1,16,16"], "does not fit input 'image'"),
    "shape that contradicts": Case([*PRUNE, "--keep", "0.5", "--shape", "image=1,3,16,16"], "does not fit"),
    "shape of a stranger": Case(["measure", "{model}", "--shape", "pixels=1,1,16,16"], "No input is called 'pixels'"),
    # goals and shares
    "unknown goal": Case([*COMPRESS, "--goal", "beauty>=2x"], "beauty"),
    "unknown goal for prune": Case([*PRUNE, "--goal", "smaller"], "smaller"),
    "keep 1.7": Case([*PRUNE, "--keep", "1.7"], "--keep is a share above 0 and at most 1; it was 1.7"),
    "keep 0": Case([*PRUNE, "--keep", "0"], "--keep is a share"),
    "keep -1": Case([*PRUNE, "--keep", "-1"], "--keep is a share"),
    "keep nan": Case([*PRUNE, "--keep", "nan"], "--keep is a share"),
    "flops out of reach": Case([*PRUNE, "--goal", "flops<=0.0001x"], "the best reachable flops is about 0.0", 1),
    "params out of reach": Case([*PRUNE, "--goal", "params<=3"], "the best reachable params is about 0.0", 1),
    "params out of reach for compress": Case([*COMPRESS, "--goal", "params<=3"], "the best reachable params is", 1),
    "floor 2": Case([*PRUNE, "--goal", "flops<=0.5x", "--floor", "2"], "floor"),
    # names
    "unknown criterion": Case([*PRUNE, "--keep", "0.5", "--criterion", "magic"], "magic"),
    "unknown criterion for compress": Case([*PAPER, "--criterion", "magic"], "magic"),
    "unknown normalisation": Case([*PRUNE, "--keep", "0.5", "--normalise", "magic"], "magic"),
    "unknown allocator": Case([*PRUNE, "--goal", "flops<=0.5x", "--allocator", "magic"], "magic"),
    "unknown target": Case([*PAPER, "--target", "moon"], "moon"),
    "unknown target for measure": Case(["measure", "{model}", "--target", "moon"], "moon"),
    "unknown group": Case([*PRUNE, "--keep", "0.5", "--exclude", "attic*"], "No channel group matches 'attic*'"),
    "unknown group for compress": Case([*PAPER, "--include", "attic*"], "No channel group matches 'attic*'"),
    "everything excluded": Case([*PRUNE, "--keep", "0.5", "--exclude", "*"], "No group of channels may be cut"),
    "criterion without data": Case([*PRUNE, "--keep", "0.5", "--criterion", "taylor"], "--data"),
    "absorption without data": Case([*PRUNE, "--keep", "0.5", "--absorb"], "--data"),
    # data
    "missing data": Case([*PAPER, "--data", "{tmp}/nowhere.npz"], "nowhere.npz"),
    "missing validation": Case([*PAPER, "--data", "{train}", "--validate", "{tmp}/nowhere.npz"], "nowhere.npz"),
    "data of another shape": Case(BAD_DATA, "bad.npz", make=samples(image=np.zeros((80, 1, 9, 9), np.float32))),
    "data of another type": Case(BAD_DATA, "bad.npz", make=samples(image=np.full((80, 1, SIDE, SIDE), "a"))),
    "data with NaN": Case(BAD_DATA, "bad.npz", make=with_nan),
    "data with NaN for prune": Case(
        [*PRUNE, "--keep", "0.5", "--criterion", "taylor", "--data", "{tmp}/bad.npz"], "bad.npz", make=with_nan
    ),
    "no samples at all": Case(
        BAD_DATA, "bad.npz", make=samples(image=np.zeros((0, 1, SIDE, SIDE), np.float32), labels=np.zeros(0, int))
    ),
    "fewer labels than pictures": Case(BAD_DATA, "bad.npz", make=samples(labels=np.zeros(3, int))),
    "labels missing for top5": Case(
        [*PAPER, "--validate", "{tmp}/bad.npz", "--metric", "top5"], "label", make=samples(labels=None)
    ),
    "data that is no archive": Case(BAD_DATA, "bad.npz", make=writes("bad.npz", b"no archive")),
    # plans and databases
    "missing plan": Case(["predict", "{model}", "--plan", "{tmp}/nowhere.json"], "Cannot read the plan"),
    "plan that is none": Case(PREDICT, "is not a plan", make=writes("plan.json", b"[]")),
    "plan of another network": Case(PREDICT, "stranger", make=strange_plan),
    "corrupt database": Case(LATENCY, "own.sqlite cannot be used", make=writes("own.sqlite", b"no database " * 99)),
    "corrupt database for profile": Case(
        ["profile", "{model}", "--db", "{tmp}/own.sqlite"], "own.sqlite cannot be used",
        make=writes("own.sqlite", b"SQLite format 3\0" + b"\xff" * 5000),
    ),
    # where to write
    "output under a file": Case(
        ["prune", "{model}", "-o", "{tmp}/file/cut.onnx", "--keep", "0.5"], "file", make=writes("file", b"1")
    ),
    "output is a folder": Case(["prune", "{model}", "-o", "{tmp}", "--keep", "0.5"], "directory"),
    "bundle on a file": Case(["compress", "{model}", *HALF, "-o", "{tmp}/file"], "file", make=writes("file", b"1")),
    "output that nobody may write": Case(
        ["prune", "{model}", "-o", "/proc/cutback/cut.onnx", "--keep", "0.5"], "/proc/cutback"
    ),
    "bundle that nobody may write": Case(["compress", "{model}", *HALF, "-o", "/proc/cutback"], "/proc/cutback"),
    "bundle that is none": Case(["check", "{tmp}"], "is not a bundle"),
}  # fmt: skip


def run(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Status and the one line of error; nothing else but progress on standard error, nothing on standard output."""
    status = main(arguments)
    out, err = capfd.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("cutback: error: ")]
    assert len(errors) == 1, err
    assert all(line.startswith("cutback: ") for line in err.splitlines()), err
    assert out == ""
    return status, errors[0]


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_clear_line_and_leaves_nothing(name: str, digits: Digits, tmp_path: Path, capfd) -> None:
    case, tmp, out = CASES[name], tmp_path / "in", tmp_path / "out"
    tmp.mkdir()
    if case.make:
        case.make(tmp, digits)
    places = {"model": digits.network, "out": out, "tmp": tmp, "train": digits.train, "test": digits.test}
    before = content(tmp)
    status, line = run([argument.format(**places) for argument in case.arguments], capfd)
    assert case.says in line
    assert status == case.status
    assert "defect" not in line
    assert {path: data for path, data in content(tmp).items() if not path.startswith("own.sqlite")} == {
        path: data for path, data in before.items() if not path.startswith("own.sqlite")
    }
    assert content(out, beside=".work") == {}


def content(folder: Path, beside: str = "") -> dict[str, bytes]:
    """Every file but those of an unfinished compression."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not (beside and name.startswith(beside))}


@pytest.mark.slow
def test_a_latency_that_nobody_reaches_is_status_1_and_says_the_best(digits: Digits, tmp_path: Path, capfd) -> None:
    status, line = run(
        ["prune", str(digits.network), "-o", str(tmp_path / "cut.onnx"), "--goal", "latency<=0.01x"], capfd
    )
    assert status == 1
    assert "latency<=0.01x cannot be met: the best of " in line
    assert " measured is 0." in line
    assert "predict" in line
    assert "What remains: " in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failing", ["cut.onnx", "masked.onnx", "plan.json"])
def test_what_cannot_be_written_whole_leaves_what_was_there(
    failing: str, digits: Digits, tmp_path: Path, capfd
) -> None:
    """One of three files has no place; the two others, one of which was there before, are not left as new ones."""
    (tmp_path / "file").write_bytes(b"1")
    out = tmp_path / "out"
    out.mkdir()
    places = {name: out / name for name in ("cut.onnx", "masked.onnx", "plan.json")}
    places[failing] = tmp_path / "file" / failing
    run(
        [
            "prune", str(digits.network), "--keep", "0.5", "-o", str(places["cut.onnx"]),
            "--masked", str(places["masked.onnx"]), "--plan", str(places["plan.json"]),
        ],
        capfd,
    )  # fmt: skip
    assert list(out.iterdir()) == []


# A disk that is full, or that may only be read: small file systems of their own, where the test may mount them.


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def test_a_full_disk_is_said_and_leaves_nothing_half_written(digits: Digits, tmp_path: Path, capfd) -> None:
    with mounted(tmp_path / "small", "size=64k") as disk:
        status, line = run([a.format(model=digits.network, out=disk) for a in [*PRUNE, "--keep", "0.9"]], capfd)
        assert status == 2
        assert "the disk is full" in line
        assert list(disk.iterdir()) == []


def test_a_disk_that_fills_up_keeps_the_file_that_was_there(digits: Digits, tmp_path: Path, capfd) -> None:
    with mounted(tmp_path / "small", "size=64k") as disk:
        (disk / "cut.onnx").write_bytes(b"before")
        status, _ = run(["prune", str(digits.network), "-o", str(disk / "cut.onnx"), "--keep", "0.9"], capfd)
        assert status == 2
        assert content(disk) == {"cut.onnx": b"before"}


@pytest.mark.parametrize("size_kb", [64, 700, 1500])
def test_a_full_disk_leaves_no_bundle(size_kb: int, digits: Digits, tmp_path: Path, capfd) -> None:
    """Full at the first file, at the engine, and while the bundle is put together."""
    with mounted(tmp_path / "small", f"size={size_kb}k") as disk:
        arguments = [a.format(model=digits.network, out=disk / "bundle", tmp=tmp_path) for a in PAPER]
        status, line = run([*arguments, "--no-recovery"], capfd)
        assert status == 2
        assert "the disk is full" in line or "No space" in line
        assert content(disk / "bundle", beside=".work") == {}


def test_a_disk_that_may_only_be_read_is_said(digits: Digits, tmp_path: Path, capfd) -> None:
    with mounted(tmp_path / "small", "size=4m") as disk:
        (disk / "cut.onnx").write_bytes(b"before")
        remount(disk, "ro")
        for arguments in (
            ["prune", str(digits.network), "-o", str(disk / "cut.onnx"), "--keep", "0.5"],
            [a.format(model=digits.network, out=disk / "bundle", tmp=tmp_path) for a in PAPER],
        ):
            status, line = run(arguments, capfd)
            assert status == 2
            assert "read-only" in line
        assert content(disk) == {"cut.onnx": b"before"}


def test_the_process_itself_ends_with_the_status(digits: Digits, tmp_path: Path) -> None:
    for status, arguments in (
        (0, ["inspect", digits.network, "--json"]),
        (1, ["prune", digits.network, "-o", tmp_path / "c.onnx", "--goal", "flops<=0.0001x"]),
        (2, ["inspect", tmp_path / "nowhere.onnx"]),
    ):
        done = subprocess.run(command(*arguments), capture_output=True, text=True, check=False)
        assert done.returncode == status
        assert len(done.stderr.splitlines()) == (status > 0)
