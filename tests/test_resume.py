"""Killed in any stage, the same command finishes from where it was.

Each kill waits for what the stage leaves in DIR/.work, then takes the whole process group with SIGKILL.
"""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.check import check
from targets.profiles.schema import SESSIONS
from tests.digits import Digits, command, cutback

PATIENCE_S = 240.0
POLL_S = 0.005
EPOCHS = 3


class Run:
    """One command and the folder it writes."""

    def __init__(self, digits: Digits, folder: Path, goal: str, *more: object) -> None:
        self.output, self.db = folder / "small", folder / "own.sqlite"
        self.arguments = [
            "compress", digits.network, "--goal", goal, "--data", digits.train, "--validate", digits.test,
            "-o", self.output, "--quick", "--sessions", 2, "--epochs", EPOCHS, "--db", self.db, "--json", *more,
        ]  # fmt: skip

    def work(self, pattern: str) -> list[Path]:
        return list(self.output.glob(f".work/{pattern}"))

    def finished(self) -> dict[Path, int]:
        """Results of stages that are done, and when they were written."""
        return {path: path.stat().st_mtime_ns for path in self.work("*/result.json")}

    def killed_when(self, reached: Callable[[], bool]) -> None:
        """Start, wait for `reached`, and kill. What was finished before is as it was."""
        before = self.finished()
        process = subprocess.Popen(
            command(*self.arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            end = time.monotonic() + PATIENCE_S
            while not reached():
                assert process.poll() is None, f"it ended with status {process.returncode} before it could be killed"
                assert time.monotonic() < end
                time.sleep(POLL_S)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert {path: time_ns for path, time_ns in self.finished().items() if path in before} == before
        assert not (self.output / "manifest.json").exists()

    def finish(self) -> Any:
        before = self.finished()
        done = cutback(*self.arguments)
        assert done.status in (0, 1), done.err
        assert {path: time_ns for path, time_ns in self.finished().items() if path in before} == before
        names = {path.name for path in self.output.iterdir()}
        assert not [name for name in names - {".work"} if name.startswith(".")]
        assert self.work("bundle") == []
        assert check(self.output)["failures"] == []
        manifest = json.loads((self.output / "manifest.json").read_text())
        assert names == {*manifest["files"], "manifest.json", ".work"}
        return done.json

    def sessions_stored(self) -> int:
        """Of the profile database: one for all staircases, then one for each plan that was built."""
        if not self.db.exists():
            return 0
        with contextlib.closing(sqlite3.connect(self.db)) as raw:
            try:
                return int(raw.execute(f"SELECT count(*) FROM {SESSIONS.name}").fetchone()[0])
            except sqlite3.OperationalError:  # the tables are not there yet
                return 0

    def epochs_in_checkpoint(self) -> list[dict[str, Any]]:
        (path,) = self.work("recover-*/checkpoint.pt")
        history: list[dict[str, Any]] = torch.load(path, weights_only=True)["history"]
        return history

    def trained_an_epoch(self) -> bool:
        """A checkpoint is there before the first epoch too; it is whole at any time."""
        return bool(self.work("recover-*/checkpoint.pt")) and bool(self.epochs_in_checkpoint())


@pytest.mark.slow
def test_killed_in_recovery_measuring_and_bundling_the_same_command_finishes(digits: Digits, tmp_path) -> None:
    run = Run(digits, tmp_path, "flops<=0.4x")
    run.killed_when(run.trained_an_epoch)
    (decided,) = run.work("allocate-*/result.json")
    channels = json.loads(decided.read_text())["channels"]
    trained = run.epochs_in_checkpoint()
    run.killed_when(lambda: bool(run.work("final-engine.onnx")))
    recovered = run.epochs_in_checkpoint()
    assert len(trained) < len(recovered) == EPOCHS
    assert recovered[: len(trained)] == trained  # gone on from the checkpoint, not begun again
    run.killed_when(lambda: bool(run.work("bundle/model.onnx")))
    report = run.finish()
    assert report["recovery"]["epochs"] == recovered
    plan = json.loads((run.output / "plan.json").read_text())
    assert {g["id"]: len(g["channels"]) for g in plan["groups"]} == channels


@pytest.mark.slow
def test_killed_in_every_stage_of_a_latency_goal_the_same_command_finishes(digits: Digits, tmp_path) -> None:
    run = Run(digits, tmp_path, "latency<=0.75x")

    run.killed_when(lambda: run.sessions_stored() >= 5)
    assert run.work("profile-*/result.json") == []
    stored = run.sessions_stored()
    run.killed_when(lambda: bool(run.work("score-*")))
    assert run.sessions_stored() > stored
    (profile,) = run.work("profile-*/result.json")
    assert json.loads(profile.read_text())["reused"] > 0  # plans that the killed run had measured
    run.killed_when(lambda: bool(run.work("allocate-*/round.onnx")))
    assert run.work("allocate-*/result.json") == []
    run.killed_when(run.trained_an_epoch)
    (decided,) = run.work("allocate-*/result.json")
    channels = json.loads(decided.read_text())["channels"]
    trained = run.epochs_in_checkpoint()
    run.killed_when(lambda: bool(run.work("final-engine.onnx")))
    run.killed_when(lambda: bool(run.work("bundle/model.onnx")))
    report = run.finish()
    assert report["recovery"]["epochs"][: len(trained)] == trained
    plan = json.loads((run.output / "plan.json").read_text())
    assert {g["id"]: len(g["channels"]) for g in plan["groups"]} == channels


@pytest.mark.slow
def test_killed_between_rounds_the_rounds_that_were_measured_are_kept(digits: Digits, tmp_path) -> None:
    run = Run(digits, tmp_path, "latency<=0.6x")
    run.killed_when(lambda: bool(run.work("allocate-*/round-0.json")))
    (kept,) = run.work("allocate-*/round-0.json")
    first = json.loads(kept.read_text())["round"]
    written = kept.stat().st_mtime_ns
    report = run.finish()
    assert kept.stat().st_mtime_ns == written
    assert report["latency"]["rounds"][0]["measured_ms"] == pytest.approx(first["measured_ns"] / 1e6)


@pytest.mark.slow
def test_killed_in_the_second_round_the_first_one_is_kept(digits: Digits, tmp_path) -> None:
    run = Run(digits, tmp_path, "flops<=0.4x", "--rounds", 2)
    run.killed_when(lambda: len(run.work("score-*")) == 2)
    (first,) = run.work("recover-*/recovered.onnx")
    (decided,) = run.work("allocate-*/result.json")
    run.killed_when(lambda: len(run.work("recover-*/checkpoint.pt")) == 2)
    report = run.finish()
    assert len(report["cuts"]) == 2
    assert report["cuts"][0]["flops"] > report["cuts"][1]["flops"] == report["flops"]["after"]
    assert [cut["epochs"] for cut in report["cuts"]] == [1, 2]
    assert first.exists()
    # The plan is of the original network: what the first round kept, less what the second took.
    left = json.loads(decided.read_text())["channels"]
    plan = json.loads((run.output / "plan.json").read_text())
    assert all(len(group["channels"]) <= left[group["id"]] for group in plan["groups"])
    assert plan["flops"]["after"] == report["flops"]["after"]


@pytest.mark.slow
def test_killed_while_batchnorm_is_put_back_and_after_the_same_command_finishes(digits: Digits, tmp_path) -> None:
    run = Run(replace(digits, network=digits.folded), tmp_path, "flops<=0.4x")
    run.killed_when(lambda: bool(run.work("batchnorm-*")))
    assert run.work("score-*") == []
    run.killed_when(run.trained_an_epoch)
    (stage,) = run.work("batchnorm-*/result.json")
    measured = json.loads(stage.read_text())
    trained = run.epochs_in_checkpoint()
    report = run.finish()
    assert {name: report["batchnorm"][name] for name in measured} == measured
    assert report["recovery"]["epochs"][: len(trained)] == trained


def test_other_data_under_the_same_name_is_other_data(digits: Digits, tmp_path) -> None:
    import numpy as np

    from pipeline.job import file_identity

    path = tmp_path / "train.npz"
    np.savez(path, image=np.zeros((4, 1, 16, 16), np.float32))
    before = file_identity(str(path))
    assert file_identity(str(path)) == before
    np.savez(path, image=np.ones((5, 1, 16, 16), np.float32))
    assert file_identity(str(path)) != before
