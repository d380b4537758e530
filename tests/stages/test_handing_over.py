"""The engine does what its graph says, and the bundle holds all that is needed to see so elsewhere."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipeline.stages.building as building
from pipeline.check import check
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.model import load
from pipeline.plan import describe_plan, read_plan
from pipeline.stages.building import Built, build_and_check
from pipeline.stages.bundling import write_bundle
from pipeline.stages.cutting import cut_and_prove
from pipeline.stages.opening import Opened
from targets.connection import Connection
from targets.errors import BadInput, TargetError
from tests.latency.networks import residual
from tests.stages.networks import of

REPORT: dict[str, Any] = {
    "created": "2026-01-02T03:04:05+00:00", "target": {"name": "local", "threads": 1}, "doubts": [], "met": True,
    "device": {"stack": {"onnxruntime": "1.0"}}, "accuracy": None,
    "latency": {"heldout": {"median_error": float("nan")}},
}  # fmt: skip


@pytest.fixture(scope="module")
def handed_over(connection: Connection, tmp_path_factory) -> tuple[Opened, dict[str, Any], Built, Path]:
    net = of(residual())
    kept = {"stem": tuple(range(8)), "inner": (1, 3, 5)}
    small = cut_and_prove(net, kept, constants="kept").model
    folder = tmp_path_factory.mktemp("handing-over")
    built = build_and_check(small, folder / "cut.onnx", folder / "engine.onnx", connection)
    plan = describe_plan(net.model, net.channels, kept, small, "kept")
    write_bundle(folder / "bundle", small, plan, built, REPORT)
    return net, plan, built, folder / "bundle"


def test_an_engine_gives_what_its_graph_gives(handed_over) -> None:
    _, _, built, _ = handed_over
    assert built.difference < 1e-3
    assert built.doubts == ()
    assert set(built.golden_inputs) == {"x"}
    assert set(built.golden_outputs) == {"y"}


def test_an_engine_that_gives_something_else_is_an_error(connection: Connection, tmp_path, monkeypatch) -> None:
    """As a runtime with a broken optimiser would: the graph says one thing, the engine another."""
    net = of(residual())

    def another(proto: Any, feeds: Any) -> dict[str, Any]:
        return {name: values + 1 + np.abs(values) for name, values in run_unoptimised(proto, feeds).items()}

    monkeypatch.setattr(building, "run_unoptimised", another)
    with pytest.raises(TargetError, match=r"gives other outputs than its graph \(by [\d.]+%\)"):
        build_and_check(net.model, tmp_path / "net.onnx", tmp_path / "engine.onnx", connection)


def test_a_small_difference_is_a_doubt(connection: Connection, tmp_path, monkeypatch) -> None:
    net = of(residual())
    monkeypatch.setattr(
        building, "run_unoptimised",
        lambda proto, feeds: {name: values * 1.03 for name, values in run_unoptimised(proto, feeds).items()},
    )  # fmt: skip
    built = build_and_check(net.model, tmp_path / "net.onnx", tmp_path / "engine.onnx", connection)
    (doubt,) = built.doubts
    assert "differ" in doubt


def test_the_manifest_vouches_for_every_file_and_nothing_else_lies_there(handed_over) -> None:
    *_, bundle = handed_over
    manifest = json.loads((bundle / "manifest.json").read_text(), parse_constant=pytest.fail)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in bundle.iterdir() if path.is_file()}
    del files["manifest.json"]
    assert manifest["files"] == files
    assert {"model.onnx", "engine.onnx", "golden.npz", "plan.json", "run.py", "report.html", "report.md",
            "report.json"} == set(files)  # fmt: skip
    assert manifest["inputs"] == [{"name": "x", "shape": ["batch", 3, 8, 8], "dtype": "float32"}]
    assert check(bundle)["failures"] == []


def test_the_bundle_runs_by_itself(handed_over) -> None:
    *_, bundle = handed_over
    done = subprocess.run([sys.executable, str(bundle / "run.py")], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.startswith("y: shape (1, 10), largest difference from the golden output ")
    assert float(done.stdout.split()[-1]) < 1e-3


def test_the_golden_outputs_are_the_models(handed_over) -> None:
    *_, bundle = handed_over
    golden = np.load(bundle / "golden.npz")
    assert sorted(golden.files) == ["input:x", "output:y"]
    outputs = run_unoptimised(load(bundle / "model.onnx").proto, {"x": golden["input:x"]})
    assert np.array_equal(outputs["y"], golden["output:y"])


def test_a_bundle_is_written_again_in_place(handed_over) -> None:
    _, plan, built, bundle = handed_over
    before = {path.name: path.read_bytes() for path in bundle.iterdir() if path.is_file()}
    write_bundle(bundle, load(bundle / "model.onnx"), plan, built, REPORT)
    assert {path.name: path.read_bytes() for path in bundle.iterdir() if path.is_file()} == before
    assert list((bundle / ".work").iterdir()) == []


def test_a_bundle_that_cannot_be_finished_leaves_the_earlier_one(handed_over, tmp_path, monkeypatch) -> None:
    import pipeline.stages.bundling as bundling

    _, plan, built, bundle = handed_over
    folder = tmp_path / "again"
    model = load(bundle / "model.onnx")
    write_bundle(folder, model, plan, built, REPORT)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundling, "write_report", full)
    with pytest.raises(OSError, match="No space"):
        write_bundle(folder, model, {**plan, "constants": "dropped"}, built, {**REPORT, "created": "later"})
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert check(folder)["failures"] == []


def test_a_plan_comes_back_as_it_was_and_refuses_another_network(handed_over, tmp_path) -> None:
    net, plan, _, bundle = handed_over
    kept, constants = read_plan(bundle / "plan.json", net.channels)
    assert (kept["stem"], kept["inner"], constants) == (tuple(range(8)), (1, 3, 5), "kept")
    assert plan["tensors"]["inner.w"] == {"0": [1, 3, 5], "1": list(range(8))}
    other = json.loads((bundle / "plan.json").read_text())
    other["groups"][0]["id"] = "stranger"
    (tmp_path / "other.json").write_text(json.dumps(other))
    with pytest.raises(BadInput, match="'stranger'"):
        read_plan(tmp_path / "other.json", net.channels)
    for text in ("", "{}", "[1]", '{"groups": [{"id": 3}]}', '{"groups": {"a": 1}}'):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(BadInput, match=r"is not a plan"):
            read_plan(tmp_path / "other.json", net.channels)
    with pytest.raises(BadInput, match="Cannot read the plan"):
        read_plan(tmp_path / "missing.json", net.channels)


@pytest.mark.parametrize(("runtime", "has"), [("onnxruntime", True), ("openvino", False)])
def test_the_script_is_only_there_for_engines_that_it_can_run(handed_over, tmp_path, runtime: str, has: bool) -> None:
    net, plan, built, _ = handed_over
    other = replace(built, engine=replace(built.engine, runtime=runtime))
    manifest = write_bundle(tmp_path / "bundle", net.model, plan, other, REPORT)
    assert ("run.py" in manifest["files"]) is has
