import hashlib
import json
from pathlib import Path

import pytest

from pipeline.check import check
from targets.errors import BadInput

REPORT = {
    "latency": {
        "before": {"median_ms": 4.0, "low_ms": 3.9, "high_ms": 4.1},
        "after": {"median_ms": 2.0, "low_ms": 1.9, "high_ms": 2.1},
        "ratio": {"value": 2.0, "low": 1.9, "high": 2.1, "verdict": "faster"},
        "predicted_ms": 1.0,
    },
    "accuracy": {"metric": "top1", "before": 98.0, "after": 97.5, "drop": 0.5},
    "doubts": ["widths were measured in place only"],
}


def write_bundle(folder: Path, report: object = REPORT) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "engine.onnx").write_bytes(b"an engine")
    names = ("report.json", "engine.onnx")
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    (folder / "manifest.json").write_text(json.dumps({"files": files}))
    return folder


def altered(**latency: object) -> dict[str, object]:
    return {**REPORT, "latency": {**REPORT["latency"], **latency}}  # type: ignore[dict-item]


def test_a_whole_bundle_within_its_gates_passes(tmp_path):
    result = check(write_bundle(tmp_path), max_latency_ns=2.1e6, min_speedup=1.9, max_drop=0.5)
    assert result["failures"] == []
    assert [gate["passed"] for gate in result["gates"]] == [True, True, True]
    assert result["doubts"] == ["widths were measured in place only"]


def test_a_bundle_without_gates_is_checked_for_its_files_only(tmp_path):
    assert check(write_bundle(tmp_path))["failures"] == []


@pytest.mark.parametrize(
    ("gates", "says"),
    [
        ({"max_latency_ns": 2.05e6}, "2.1 ms"),  # the median of 2.0 would have passed
        ({"min_speedup": 1.95}, "1.9x"),  # the ratio of 2.0 would have passed
        ({"max_drop": 0.4}, "0.5 points"),
    ],
)
def test_a_gate_counts_the_unfavourable_end_of_the_interval(tmp_path, gates, says):
    (failure,) = check(write_bundle(tmp_path), **gates)["failures"]
    assert says in failure


@pytest.mark.parametrize(
    ("report", "gates"),
    [
        ({}, {"max_latency_ns": 1e9}),
        ({}, {"min_speedup": 0.1}),
        ({**REPORT, "accuracy": None}, {"max_drop": 100.0}),
        (altered(after={"median_ms": 2.0, "high_ms": None}), {"max_latency_ns": 1e9}),
        (altered(after={"median_ms": 2.0, "high_ms": float("nan")}), {"max_latency_ns": 1e9}),
        (altered(after={"median_ms": 2.0, "high_ms": "fast"}), {"max_latency_ns": 1e9}),
    ],
)
def test_a_number_that_was_not_measured_fails_its_gate(tmp_path, report, gates):
    (failure,) = check(write_bundle(tmp_path, report), **gates)["failures"]
    assert "no measured" in failure


@pytest.mark.parametrize("gate", [{"max_latency_ns": 1e9}, {"min_speedup": 0.1}])
def test_a_doubted_number_fails_its_gate_and_says_the_doubt(tmp_path, gate):
    report = altered(after={"median_ms": 2.0, "high_ms": 2.1, "doubts": ["the clock was throttled"]})
    (failure,) = check(write_bundle(tmp_path, report), **gate)["failures"]
    assert "the clock was throttled" in failure


def test_a_doubt_about_the_uncut_network_is_a_doubt_about_the_speed_up(tmp_path):
    report = altered(before={"median_ms": 4.0, "high_ms": 4.1, "doubts": ["the clock was throttled"]})
    bundle = write_bundle(tmp_path, report)
    assert check(bundle, max_latency_ns=1e9)["failures"] == []
    assert len(check(bundle, min_speedup=0.1)["failures"]) == 1


def test_a_changed_engine_is_found(tmp_path):
    (write_bundle(tmp_path) / "engine.onnx").write_bytes(b"another engine")
    assert check(tmp_path)["failures"] == ["engine.onnx: the content is not what the manifest says"]


def test_a_report_edited_to_pass_is_found(tmp_path):
    (write_bundle(tmp_path) / "report.json").write_text(json.dumps(altered(ratio={"low": 9.0})))
    assert check(tmp_path, min_speedup=5.0)["failures"] == ["report.json: the content is not what the manifest says"]


def test_a_missing_file_is_found(tmp_path):
    (write_bundle(tmp_path) / "engine.onnx").unlink()
    assert check(tmp_path)["failures"] == ["engine.onnx: the file is missing"]


def test_a_manifest_that_leaves_out_the_report_does_not_vouch_for_it(tmp_path):
    write_bundle(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["files"]["report.json"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert check(tmp_path)["failures"] == ["report.json: the manifest does not vouch for it"]


def test_a_manifest_that_points_outside_the_bundle_is_refused(tmp_path):
    write_bundle(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"files": {"report.json": "0", "../secret": "0"}}))
    with pytest.raises(BadInput, match="outside the bundle"):
        check(tmp_path)


@pytest.mark.parametrize("content", ["", "not json", "[]", '{"files": {}}', '{"files": 3}', "{}"])
def test_a_broken_manifest_is_bad_input(tmp_path, content):
    (write_bundle(tmp_path) / "manifest.json").write_text(content)
    with pytest.raises(BadInput, match=r"manifest\.json"):
        check(tmp_path)


def test_what_is_not_a_bundle_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="not a bundle"):
        check(tmp_path)
    with pytest.raises(BadInput, match="not a bundle"):
        check(tmp_path / "missing")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="is a file"):
        check(tmp_path / "file")
