"""Saving: a reader finds the old model or the new one, each with its own weights, whenever a save is killed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pipeline.graph import writing
from pipeline.graph.couple import couple
from pipeline.graph.cut import cut
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.model import Model, from_proto, load, save
from pipeline.graph.proof import random_feeds
from pipeline.prune import prune
from targets.errors import BadInput
from tests.graph.random_cuts import proven, random_half
from tests.graph.small import proto

TABLE_BYTES = 3 * 733_000_000


def network(seed: int = 0, channels: int = 16) -> Model:
    random = np.random.default_rng(seed)
    weights = [random.standard_normal(shape).astype(np.float32) for shape in ((channels, 4, 3, 3), (4, channels, 1, 1))]
    body = "a = Conv(x, w) b = Relu(a) y = Conv(b, v)"
    source = proto("float[1,4,6,6] x", body, w=weights[0], v=weights[1])
    for name in "nchw":
        source.graph.output[0].type.tensor_type.shape.dim.add(dim_param=name)
    return from_proto(source)


@pytest.fixture
def _weights_beside(monkeypatch) -> None:
    """Small models are written as large ones are."""
    monkeypatch.setattr(writing, "INLINE_LIMIT_BYTES", 100)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("_weights_beside")
def test_weights_beside_are_read_back_and_the_saved_model_keeps_its_own(tmp_path) -> None:
    model = network()
    before = model.proto.SerializeToString(deterministic=True)
    save(model, tmp_path / "m.onnx")
    assert files(tmp_path) == ["m.onnx", "m.onnx.data"]
    assert model.proto.SerializeToString(deterministic=True) == before
    assert load(tmp_path / "m.onnx").proto.graph == model.proto.graph
    onnx.checker.check_model(str(tmp_path / "m.onnx"))
    theirs = onnx.load(tmp_path / "m.onnx").graph.initializer
    assert [tensor.raw_data for tensor in theirs] == [tensor.raw_data for tensor in model.proto.graph.initializer]


@pytest.mark.usefixtures("_weights_beside")
def test_saving_again_replaces_the_data_file_and_leaves_no_other(tmp_path) -> None:
    for seed in range(3):
        save(network(seed), tmp_path / "m.onnx")
        assert load(tmp_path / "m.onnx").proto.graph == network(seed).proto.graph
        assert len(files(tmp_path)) == 2


def test_a_model_in_one_file_takes_the_place_of_one_with_data(tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(writing, "INLINE_LIMIT_BYTES", 100)
        save(network(0), tmp_path / "m.onnx")
    save(network(1), tmp_path / "m.onnx")
    assert files(tmp_path) == ["m.onnx"]


@pytest.mark.usefixtures("_weights_beside")
def test_data_of_another_model_is_never_written_over(tmp_path) -> None:
    (tmp_path / "m.onnx.data").write_bytes(b"somebody else's")
    save(network(), tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").read_bytes() == b"somebody else's"
    assert load(tmp_path / "m.onnx").proto.graph == network().proto.graph


@pytest.mark.usefixtures("_weights_beside")
@pytest.mark.parametrize("renames", [0, 1])
def test_a_save_that_fails_leaves_the_old_model_with_its_own_weights(renames, tmp_path, monkeypatch) -> None:
    """Before the first rename (of the data), and between it and the second (of the model)."""
    save(network(0), tmp_path / "m.onnx")
    before = files(tmp_path)
    replace = Path.replace
    done: list[Path] = []

    def full(self: Path, target: Path) -> Path:
        if len(done) == renames:
            raise OSError(28, "No space left on device")
        done.append(target)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        save(network(1), tmp_path / "m.onnx")
    monkeypatch.undo()
    assert files(tmp_path) == before
    assert load(tmp_path / "m.onnx").proto.graph == network(0).proto.graph


@pytest.mark.usefixtures("_weights_beside")
@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_killed_save_leaves_one_whole_model(renames, tmp_path, monkeypatch) -> None:
    """Killed for real, in a process of its own, before, between and after the renames."""
    save(network(0), tmp_path / "m.onnx")
    code = f"""
import os, pathlib
from tests.graph.test_save import network
from pipeline.graph import writing
writing.INLINE_LIMIT_BYTES = 100
replace, done = pathlib.Path.replace, []
def killed(self, target):
    if len(done) == {renames}:
        os.kill(os.getpid(), 9)
    replace(self, target)
    done.append(target)
    if len(done) == {renames}:
        os.kill(os.getpid(), 9)
pathlib.Path.replace = killed
writing.write_proto(network(1).proto, pathlib.Path({str(tmp_path / "m.onnx")!r}))
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False)
    assert ended.returncode == -9
    monkeypatch.undo()
    wanted = network(1 if renames == 2 else 0)
    assert load(tmp_path / "m.onnx").proto.graph == wanted.proto.graph
    monkeypatch.setattr(writing, "INLINE_LIMIT_BYTES", 100)
    save(network(2), tmp_path / "m.onnx")  # what a killed save leaves behind is in nobody's way
    assert load(tmp_path / "m.onnx").proto.graph == network(2).proto.graph


def large(folder: Path, *, one_file: bool) -> Path:
    """A small network beside three tables of zeros, over 2 GB together, in sparse files that take no room."""
    source = onnx.ModelProto()
    source.CopyFrom(network().proto)
    graph, rows, total = source.graph, TABLE_BYTES // 3 // 1_000_000, "small"
    graph.node[-1].output[0] = total
    graph.input.append(helper.make_tensor_value_info("row", TensorProto.INT64, [1]))
    for part in range(3):
        table = graph.initializer.add(name=f"table{part}", data_type=TensorProto.UINT8, dims=[rows, 1_000_000])
        table.data_location = TensorProto.EXTERNAL
        place = {"location": "table" if one_file else f"table{part}", "offset": rows * 1_000_000 * part * one_file}
        for key, value in place.items():
            table.external_data.add(key=key, value=str(value))
        with (folder / str(place["location"])).open("wb") as stream:
            stream.truncate(rows * 1_000_000 * (3 if one_file else 1))
        picked, numbers, top, added = (f"{name}{part}" for name in ("row", "float", "top", "sum"))
        graph.node.append(helper.make_node("Gather", [f"table{part}", "row"], [picked]))
        graph.node.append(helper.make_node("Cast", [picked], [numbers], to=TensorProto.FLOAT))
        graph.node.append(helper.make_node("ReduceMax", [numbers], [top], keepdims=0))
        graph.node.append(helper.make_node("Add", [total, top], [added]))
        total = added
    graph.node[-1].output[0] = "y"
    path = folder / "large.onnx"
    path.write_bytes(source.SerializeToString())
    return path


def test_a_single_tensor_of_over_two_gigabytes_is_refused_without_being_read(tmp_path) -> None:
    path = large(tmp_path, one_file=True)
    source = onnx.load(path, load_external_data=False)
    source.graph.initializer[-1].dims[0] = 2200
    with (tmp_path / "table").open("r+b") as stream:
        stream.truncate(10_000_000_000)
    path.write_bytes(source.SerializeToString())
    with pytest.raises(BadInput, match="one tensor of 2200000000 bytes"):
        load(path)


@pytest.mark.slow
@pytest.mark.parametrize("one_file", [True, False])
def test_model_of_over_two_gigabytes_is_loaded_cut_proven_and_saved(one_file, tmp_path) -> None:
    model = load(large(tmp_path, one_file=one_file))
    assert not writing.is_inline(model.proto)
    channels = couple(model)
    kept = random_half(channels)
    assert proven(model, channels, kept).relative_error < 1e-5
    small = cut(model, channels, kept)
    (tmp_path / "out").mkdir()
    save(small, tmp_path / "out" / "small.onnx")
    assert files(tmp_path / "out") == ["small.onnx", "small.onnx.data"]
    feeds = random_feeds(small, 0)
    wanted = run_unoptimised(small.proto, feeds)["y"]
    del model, channels, small
    again = load(tmp_path / "out" / "small.onnx")
    assert np.array_equal(run_unoptimised(again.proto, feeds)["y"], wanted)


@pytest.mark.slow
def test_weights_in_a_file_each_as_onnx_writes_them_are_loaded(tmp_path) -> None:
    source = onnx.load(large(tmp_path, one_file=False))
    (tmp_path / "each").mkdir()
    onnx.save_model(
        source,
        tmp_path / "each" / "m.onnx",
        save_as_external_data=True,
        all_tensors_to_one_file=False,
        size_threshold=0,
    )
    del source
    assert len(files(tmp_path / "each")) > 3
    model = load(tmp_path / "each" / "m.onnx")
    assert not writing.is_inline(model.proto)
    assert couple(model).free


@pytest.mark.slow
def test_prune_takes_a_model_of_over_two_gigabytes(tmp_path) -> None:
    path = large(tmp_path, one_file=True)
    (tmp_path / "out").mkdir()
    result = prune(str(path), tmp_path / "out" / "half.onnx", keep=0.5, plan=tmp_path / "out" / "plan.json")
    assert files(tmp_path / "out") == ["half.onnx", "half.onnx.data", "plan.json"]
    assert result["proof"]["relative_error"] < 1e-5
    assert (tmp_path / "out" / "half.onnx.data").stat().st_size >= TABLE_BYTES
