"""What is packed for a Jetson, and the program in it: run here for real, with ONNX Runtime in TensorRT's place."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from pipeline.cli import main
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.model import from_proto, load, save
from pipeline.graph.proof import finite_feeds
from pipeline.pack import pack
from pipeline.packs.jetson import BY_HAND, INT8_COMMAND, PROGRAM
from pipeline.workspace import file_digest
from targets.archive import write_standalone
from targets.connection import connect
from targets.errors import BadInput
from targets.profiles.database import Database
from targets.profiles.export import export
from targets.profiles.lines import WHOLE_ENGINE
from targets.profiles.merge import merge
from targets.profiles.overview import kernels
from targets.profiles.search import Wanted
from targets.runtimes import open_runtime
from targets.target import find_target
from tests.targets.models import elementwise, residual
from tests.targets.precisions import int8

MODELS = {"uncut": "fp32", "uncut-fp16": "fp16", "model": "fp32", "model-fp16": "fp16", "model-int8": "int8"}


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        (line,) = self.err.splitlines()
        assert line.startswith("on_device: error: ")
        return line


def on_device(folder: Path, *options: str) -> Ran:
    """The program, as its user calls it, in `folder`'s parent."""
    command = [sys.executable, f"{folder.name}/{PROGRAM}", *options]
    done = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, timeout=300, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


def write_bundle(folder: Path, model: onnx.ModelProto | None = None) -> Path:
    """What compress leaves, as far as a pack reads it: a network of 12 channels, and the one of 20 that it was."""
    (folder / ".work").mkdir(parents=True)
    save(from_proto(residual()), folder / ".work" / "uncut.onnx")
    cut = from_proto(model or residual(12))
    save(cut, folder / "model.onnx")
    feeds = finite_feeds(cut, 0)
    arrays = {f"input:{name}": values for name, values in feeds.items()}
    arrays |= {f"output:{name}": values for name, values in run_unoptimised(cut.proto, feeds).items()}
    np.savez(folder / "golden.npz", allow_pickle=False, **arrays)
    (folder / "report.json").write_text("{}")
    vouch(folder, ("model.onnx", "golden.npz", "report.json"))
    return folder


def vouch(folder: Path, names: tuple[str, ...]) -> None:
    files = {name: file_digest(folder / name) for name in names}
    (folder / "manifest.json").write_text(json.dumps({"files": files}))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With an int8 of TensorRT's scheme put by hand into the bundle."""
    folder = tmp_path_factory.mktemp("jetson")
    bundle = write_bundle(folder / "bundle")
    save(int8(load(bundle / "model.onnx"), "tensorrt"), bundle / BY_HAND)
    pack(bundle, "jetson", folder / "packed")
    return folder / "packed"


@pytest.fixture
def copy(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "packed"))


def manifest_of(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_text())


# what is packed


def test_every_precision_travels_with_what_it_gives_for_the_golden_input(packed: Path) -> None:
    manifest = manifest_of(packed)
    assert {name: model["precision"] for name, model in manifest["models"].items()} == MODELS
    assert manifest["left_out"] == {}
    assert "sm_87" in manifest["engines"]
    assert set(manifest["files"]) == {*(f"{name}.onnx" for name in MODELS), "golden.npz", PROGRAM}
    with np.load(packed / "golden.npz") as golden:
        assert set(golden.files) == {"input:x/in:0", *(f"{name}:y" for name in MODELS)}
        assert 0 < np.abs(golden["model:y"] - golden["model-fp16:y"]).max() < 0.01 * np.abs(golden["model:y"]).max()


def test_models_are_as_old_as_the_oldest_tensorrt_reads_and_have_fixed_shapes(tmp_path: Path) -> None:
    newer = onnx.version_converter.convert_version(residual(12), 21)
    newer.ir_version = 10
    pack(write_bundle(tmp_path / "bundle", newer), "jetson", tmp_path / "packed")
    for name in ("model", "model-fp16"):
        model = onnx.load(tmp_path / "packed" / f"{name}.onnx")
        assert model.opset_import[0].version == 17
        assert model.ir_version <= 8
        dims = model.graph.input[0].type.tensor_type.shape.dim
        assert [dim.dim_value for dim in dims] == [1, 3, 8, 8]


def test_nvidias_parser_takes_all_that_is_packed(packed: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="not installed: pip install 'cutback[tensorrt-rtx]'")
    with connect(find_target("local-tensorrt-rtx:sm=86")) as builder:
        for name in MODELS:
            assert builder.build(packed / f"{name}.onnx", tmp_path / name).path.stat().st_size > 1000


def test_int8_of_another_runtimes_scheme_stays_behind_with_the_command_for_one(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    save(int8(load(bundle / "model.onnx"), "onnxruntime"), bundle / "model-int8.onnx")
    pack(bundle, "jetson", tmp_path / "packed")
    manifest = manifest_of(tmp_path / "packed")
    assert "model-int8" not in manifest["models"]
    assert "is not symmetric int8" in manifest["left_out"]["model-int8"]
    assert INT8_COMMAND in manifest["left_out"]["model-int8"]


@pytest.mark.slow
def test_the_command_for_int8_gives_what_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorrt_rtx", reason="not installed: pip install 'cutback[tensorrt-rtx]'")
    bundle = write_bundle(tmp_path / "bundle")
    pictures = np.random.default_rng(0).standard_normal((8, 3, 8, 8), np.float32)
    np.savez(tmp_path / "d.npz", allow_pickle=False, **{"x/in:0": pictures})
    words = INT8_COMMAND.replace("BUNDLE", str(bundle)).replace("DATA", str(tmp_path / "d.npz")).split()
    assert main([str(tmp_path / "e") if word == "ENGINE" else word for word in words[1:]]) == 0
    assert main(["check", str(bundle)]) == 0  # what was put beside its files does not make it another bundle
    assert main(["pack", str(bundle), "--for", "jetson", "-o", str(tmp_path / "packed")]) == 0
    assert manifest_of(tmp_path / "packed")["models"]["model-int8"] == {"precision": "int8"}
    assert "what it was built from" in capsys.readouterr().out


def test_a_network_that_came_with_pairs_tensorrt_does_not_take_is_refused(tmp_path: Path) -> None:
    quantised = int8(from_proto(residual(12)), "onnxruntime").proto
    bundle = write_bundle(tmp_path / "bundle", quantised)
    with pytest.raises(BadInput, match=r"model\.onnx: node .* is not symmetric int8"):
        pack(bundle, "jetson", tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_without_the_stages_folder_the_uncut_network_stays_behind(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    shutil.rmtree(bundle / ".work")
    pack(bundle, "jetson", tmp_path / "packed")
    assert "uncut" in manifest_of(tmp_path / "packed")["left_out"]


def test_a_weight_beyond_fp16_leaves_fp16_out_and_says_why(tmp_path: Path) -> None:
    model = residual(12)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "w3")
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1e6, "w3"))
    pack(write_bundle(tmp_path / "bundle", model), "jetson", tmp_path / "packed")
    manifest = manifest_of(tmp_path / "packed")
    assert "model" in manifest["models"]
    assert "fp16 cannot hold" in manifest["left_out"]["model-fp16"]


def test_a_bundle_that_was_changed_is_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    (bundle / "model.onnx").write_bytes(b"another")
    with pytest.raises(BadInput, match=r"model\.onnx: the content is not what the manifest says"):
        pack(bundle, "jetson", tmp_path / "packed")


def test_the_program_has_the_same_bytes_every_time(packed: Path, tmp_path: Path) -> None:
    write_standalone(tmp_path / "again.pyz")
    assert (tmp_path / "again.pyz").read_bytes() == (packed / PROGRAM).read_bytes()


def test_its_page_has_the_command_for_int8_and_what_is_said_of_sm_87() -> None:
    page = (Path(__file__).parents[1] / "docs" / "jetson.md").read_text()
    assert INT8_COMMAND in page
    with pytest.raises(BadInput) as refusal:
        open_runtime("tensorrt-rtx", 1, {"sm": "87"})
    assert f"cutback: error: {refusal.value}" in page


# the program


@pytest.mark.slow
def test_it_builds_checks_and_times_and_its_results_merge(copy: Path, tmp_path: Path) -> None:
    ran = on_device(copy, "--runtime", "onnxruntime", "--sessions", "2", "--quick")
    assert (ran.status, ran.err) == (0, "")
    for name in MODELS:
        assert f"{name}: outputs differ from the host's by " in ran.out
        assert (copy / "engines" / f"{name}.onnx").stat().st_size > 0
    assert "by short sessions" in ran.out
    database = Database(tmp_path / "profiles.sqlite")
    merged = merge(database, tmp_path / "results.jsonl")
    assert (merged.new.sessions, merged.new.keys, merged.new.rows) == (10, 5, 10)
    assert main(["db", "check", "--db", str(tmp_path / "profiles.sqlite")]) == 0
    found, total = kernels(database, Wanted(place=WHOLE_ENGINE))
    files = manifest_of(copy)["files"]
    assert total == 5
    assert {line.key.op["model"]: line.key.op["precision"] for line in found} == {
        files[f"{name}.onnx"]: precision for name, precision in MODELS.items()
    }
    assert {line.key.method["protocol"] for line in found} == {"quick"}
    assert {line.key.regime["regime"] for line in found} == {"as-shipped"}
    export(database, tmp_path / "again.jsonl", Wanted())
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "results.jsonl").read_bytes()


def test_cutback_db_lists_what_came_back(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only(copy, "model")
    ran = on_device(copy, "--runtime", "onnxruntime", "--sessions", "1", "--quick", "--regime", "locked")
    assert ran.status == 0, ran.err
    db = str(tmp_path / "profiles.sqlite")
    assert main(["db", "merge", str(tmp_path / "results.jsonl"), "--db", db]) == 0
    capsys.readouterr()
    assert main(["db", "--db", db, "--json"]) == 0
    (line,) = json.loads(capsys.readouterr().out)
    assert line["timed"] == {WHOLE_ENGINE: 1}
    assert line["regime"]["regime"] == "locked"
    assert main(["db", "kernels", "--db", db]) == 0
    assert "whole network" in capsys.readouterr().out


@pytest.mark.slow
def test_an_engine_that_gives_other_outputs_is_refused_and_the_others_are_timed(copy: Path) -> None:
    only(copy, "uncut", "model")
    with np.load(copy / "golden.npz") as golden:
        arrays = dict(golden)
    arrays["model:y"] = arrays["model:y"] * 1.2
    np.savez(copy / "golden.npz", **arrays)
    vouch_again(copy)
    ran = on_device(copy, "--runtime", "onnxruntime", "--sessions", "1", "--quick")
    assert ran.status == 1
    assert "model: refused: the engine gives other outputs than its graph (by 16.7%)" in ran.out
    assert "model: refused above" in ran.error
    assert [path.name for path in (copy / "engines").iterdir()] == ["uncut.onnx"]
    assert (copy.parent / "results.jsonl").exists()


def test_without_a_gpu_tensorrt_is_refused_in_one_line(copy: Path) -> None:
    for options in ((), ("--dla", "0")):
        ran = on_device(copy, *options)
        if ran.status == 0:
            pytest.skip("there is a GPU here")
        assert ran.status == 2
        assert "TensorRT needs an NVIDIA GPU" in ran.error
        assert ran.out == ""
    assert not (copy.parent / "results.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--runtime", "ncnn"), "invalid choice: 'ncnn'"),
        (("--sessions", "0"), "--sessions 0 measures nothing"),
        (("--runtime", "onnxruntime", "--dla", "0"), "--dla is TensorRT's"),
        (("--threads", "1000", "--runtime", "onnxruntime"), "asks for 1000 threads"),
        (("--output", "packed/manifest.json"), "is there already"),
        (("--fast",), "unrecognized arguments: --fast. Options: python3 on_device.pyz --help"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(copy: Path, options: tuple[str, ...], says: str) -> None:
    ran = on_device(copy, *options)
    assert ran.status == 2
    assert says in ran.error


def test_a_file_that_changed_on_the_way_is_refused(copy: Path) -> None:
    (copy / "model.onnx").write_bytes(b"half of it")
    assert "model.onnx is missing or not what was packed" in on_device(copy, "--runtime", "onnxruntime").error
    (copy / "manifest.json").unlink()
    assert "is not a folder that cutback pack made" in on_device(copy, "--runtime", "onnxruntime").error


def test_a_model_that_cannot_be_built_is_refused_by_name(copy: Path) -> None:
    onnx.save(elementwise((1, 3, 4, 4)), copy / "model.onnx")  # it builds, and wants another input
    only(copy, "model")
    ran = on_device(copy, "--runtime", "onnxruntime")
    assert ran.status == 1
    assert "model: refused: " in ran.out
    assert not list((copy / "engines").iterdir())
    assert not (copy.parent / "results.jsonl").exists()


def only(folder: Path, *names: str) -> None:
    """Leave the others out of the folder's manifest."""
    manifest = manifest_of(folder)
    manifest["models"] = {name: manifest["models"][name] for name in names}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    vouch_again(folder)


def vouch_again(folder: Path) -> None:
    manifest = manifest_of(folder)
    manifest["files"] = {name: file_digest(folder / name) for name in manifest["files"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
