"""ONNX Runtime's own format: what is in the file."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from targets.connection import Connection, connect
from targets.errors import BadInput, TargetError
from targets.target import find_target


@pytest.fixture(scope="module")
def phone() -> Iterator[Connection]:
    with connect(find_target("local-ort")) as opened:
        yield opened


def test_no_blocked_layout_is_baked_in_and_fusions_are(phone: Connection, model: Path, tmp_path: Path) -> None:
    profile = phone.profile(model, runs=1)
    assert {kernel.layout for kernel in profile.kernels} == {"plain"}
    assert profile.kernels[0].fused == ("Conv", "Relu")
    engine = phone.build(model, tmp_path / "engine")
    assert b"_nchwc" not in engine.path.read_bytes()  # what blocked nodes are called


def test_kernels_are_joined_to_the_nodes_of_the_source(phone: Connection, model: Path) -> None:
    kernels = phone.profile(model, runs=1).kernels
    assert [name for kernel in kernels for name in kernel.nodes] == [
        "a/conv", "a/bn", "a/relu", "b/conv", "b/add", "b/relu", "c/conv", "c/pool",
    ]  # fmt: skip


def test_what_runs_is_the_engine_itself(phone: Connection, model: Path, tmp_path: Path) -> None:
    engine = phone.build(model, tmp_path / "engine")
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "trace")
    session = onnxruntime.InferenceSession(engine.path, options, providers=["CPUExecutionProvider"])
    session.run(None, {"x/in:0": np.zeros((1, 3, 8, 8), np.float32)})
    events = json.loads(Path(session.end_profiling()).read_text())
    ran = [event["name"].removesuffix("_kernel_time") for event in events if event["cat"] == "Node"]
    assert ran == [kernel.name for kernel in phone.profile(model, runs=1).kernels]


def test_an_engine_cannot_be_profiled_and_says_what_can(phone: Connection, model: Path, tmp_path: Path) -> None:
    engine = phone.build(model, tmp_path / "engine")
    with pytest.raises(TargetError, match=r"engine\.ort keeps no ONNX graph.*Profile the ONNX file"):
        phone.profile(engine, runs=1)


def test_garbage_with_the_suffix_is_refused(phone: Connection, tmp_path: Path) -> None:
    path = tmp_path / "m.ort"
    path.write_bytes(b"This is no model.\n" * 100)
    with pytest.raises(BadInput, match=r"m\.ort is no model in ONNX Runtime's own format"):
        phone.describe(path)


def test_a_truncated_engine_is_refused(phone: Connection, model: Path, tmp_path: Path) -> None:
    engine = phone.build(model, tmp_path / "engine")
    whole = engine.path.read_bytes()
    engine.path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises((BadInput, TargetError), match=r"^[^\n]*engine\.ort[^\n]*$"):
        phone.describe(engine.path)


def test_it_has_no_options(model: Path) -> None:
    with pytest.raises(BadInput, match="ort has no option 'provider'"), connect(find_target("local-ort:provider=cuda")):
        pass
