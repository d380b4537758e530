"""Packs for Android and iOS: what is in them runs here, and what is not in them is named."""

import json
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from pipeline.pack import pack
from pipeline.packs import android, ios
from pipeline.packs.mobile import in_kotlin, in_swift, ncnn_shape, render
from pipeline.packs.ort_advice import OPERATORS, USABILITY
from pipeline.packs.phone_models import FORMATS, convert_all
from pipeline.packs.phone_spec import golden_output, layout_of
from pipeline.workspace import file_digest, write_json
from targets.connection import connect
from targets.errors import BadInput, TargetError
from targets.target import find_target
from tests.packs.bundles import PREPROCESSING, write_small_bundle
from tests.targets.models import model_of

QUICK = tuple(each for each in FORMATS if each.runtime != "executorch")
PLAIN = QUICK[:1]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("compressed"), PREPROCESSING)


@pytest.fixture(scope="module")
def packed(bundle: Path, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("android")
    return folder, dict(android.pack(bundle, folder, QUICK))


def golden(folder: Path, spec: dict[str, Any], model: str = "model.onnx") -> tuple[dict[str, Any], dict[str, Any]]:
    """Read as an app reads it: raw files, by what spec.json says of them."""
    read = []
    for each, name in [(each, each["golden"]) for each in spec["inputs"]] + [
        (each, each["golden"][model]) for each in spec["outputs"]
    ]:
        values = np.fromfile(folder / name, np.dtype(each["dtype"]).newbyteorder("<")).reshape(each["shape"])
        read.append((each["name"], values.astype(each["dtype"])))
    count = len(spec["inputs"])
    return dict(read[:count]), dict(read[count:])


def spec_of(folder: Path) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads((folder / "spec.json").read_text())
    return spec


@pytest.mark.parametrize(("file", "source"), [("model.ort", "model.onnx"), ("model-int8.ort", "model-int8.onnx")])
def test_the_ort_file_gives_the_golden_output_from_bytes_as_an_app_loads_it(packed, file: str, source: str) -> None:
    folder, _ = packed
    inputs, outputs = golden(folder, spec_of(folder), source)
    session = onnxruntime.InferenceSession((folder / file).read_bytes(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["y"], inputs)[0], outputs["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("runtime", ["ort", "mnn", "ncnn"])
def test_every_other_file_gives_it_too(packed, tmp_path: Path, runtime: str) -> None:
    folder, _ = packed
    spec = spec_of(folder)
    if runtime not in {each["runtime"] for each in spec["models"].values()}:
        pytest.skip(f"not installed: pip install 'cutback[{runtime}]'")
    inputs, outputs = golden(folder, spec)
    engine = folder / f"model.{runtime}"
    if runtime == "ncnn":  # an engine of it is a zip with its tensors' names beside the two files of the pack
        engine = tmp_path / "model.ncnn.zip"
        with zipfile.ZipFile(engine, "w") as archive:
            for name in ("model.ncnn.param", "model.ncnn.bin"):
                archive.write(folder / name, name)
            archive.writestr("meaning.json", json.dumps({"inputs": spec["inputs"], "outputs": spec["outputs"]}))
    with connect(find_target(f"local-{runtime}")) as device:
        np.testing.assert_allclose(device.run(engine, inputs)["y"], outputs["y"], rtol=1e-4, atol=1e-5)


def test_every_dimension_is_a_number(packed) -> None:
    folder, _ = packed
    graph = onnx.load(folder / "model.onnx").graph
    assert [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == [1, 3, 8, 8]
    assert [dim.dim_value for dim in graph.output[0].type.tensor_type.shape.dim] == [1, 10]


def test_the_spec_tells_layout_and_normalisation(packed) -> None:
    folder, _ = packed
    spec = spec_of(folder)
    (given,) = spec["inputs"]
    assert (given["shape"], given["dtype"], given["layout"]) == ([1, 3, 8, 8], "float32", "NCHW")
    assert spec["normalisation"] == "(pixel / 255 - mean) / std, with mean (0.5, 0.4, 0.3) and std (0.25)"
    assert spec["preprocessing"]["mean"] == [0.5, 0.4, 0.3]


def test_what_is_not_known_of_the_input_is_said_and_not_guessed(tmp_path: Path) -> None:
    bundle = write_small_bundle(tmp_path / "made", None, int8=False)
    (tmp_path / "pack").mkdir()
    android.pack(bundle, tmp_path / "pack", PLAIN)
    spec = spec_of(tmp_path / "pack")
    assert spec["normalisation"] is None
    assert spec["inputs"][0]["layout"] == "NCHW"  # a convolution reads it
    assert "is not known here" in (tmp_path / "pack" / "README.md").read_text()
    assert not (tmp_path / "pack" / "model-int8.ort").exists()


def test_a_layout_that_no_convolution_tells_is_unknown() -> None:
    node = onnx.helper.make_node("Transpose", ["x"], ["y"], "t", perm=[0, 3, 1, 2])
    graph = model_of([node], {"x": [1, 8, 8, 3]}, {"y": [1, 3, 8, 8]}, {}).graph
    assert layout_of("x", graph, None) is None
    assert layout_of("x", graph, {"layout": "NHWC"}) == "NHWC"


def test_the_tools_of_onnx_runtime_have_their_say(packed) -> None:
    folder, told = packed
    operators = (folder / OPERATORS).read_text()
    assert "com.microsoft;1;FusedConv" in operators
    assert "# - model.ort\n" in operators
    usable = (folder / USABILITY).read_text()
    assert usable.startswith("Checking model.onnx for usability")
    assert str(folder) not in operators + usable
    assert told["nnapi_or_coreml_advised"] is True


def test_golden_tensors_lie_where_the_perf_test_looks(packed) -> None:
    folder, _ = packed
    inputs, _ = golden(folder, spec_of(folder))
    tensor = onnx.TensorProto.FromString((folder / "test_data_set_0" / "input_0.pb").read_bytes())
    assert tensor.name == "x"
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), inputs["x"])


def test_the_kotlin_is_filled_from_the_spec(packed) -> None:
    folder, _ = packed
    text = (folder / "CutbackModel.kt").read_text()
    assert 'Tensor("x", OnnxJavaType.FLOAT, longArrayOf(1, 3, 8, 8), "golden/input-0.bin"), // NCHW' in text
    assert 'Tensor("y", OnnxJavaType.FLOAT, longArrayOf(1, 10), "golden/output-0.bin"),' in text
    assert text.count("{") == text.count("}")
    assert "{{" not in text


def test_the_swift_is_filled_from_the_spec(bundle: Path, tmp_path: Path) -> None:
    ios.pack(bundle, tmp_path, PLAIN)
    text = (tmp_path / "CutbackModel.swift").read_text()
    assert 'CutbackTensor(name: "x", type: .float, shape: [1, 3, 8, 8], golden: "golden/input-0.bin"),  // NCHW' in text
    assert text.count("{") == text.count("}")
    assert (tmp_path / "CutbackGoldenTests.swift").exists()
    assert "benchmark.sh" not in (tmp_path / "README.md").read_text()


def test_every_file_that_the_benchmark_pushes_is_there(packed) -> None:
    folder, _ = packed
    script = (folder / "benchmark.sh").read_text()
    pushed = re.findall(r"^run \S+ (\S+)", script, re.MULTILINE)
    assert "model.ort" in pushed
    assert all((folder / name).exists() for name in pushed)


def test_names_are_escaped_in_each_language() -> None:
    assert in_kotlin('a"$b\\') == '"a\\"\\$b\\\\"'
    assert in_swift('a"\\(b)\n') == '"a\\"\\\\(b)\\u{a}"'
    assert ncnn_shape([1, 3, 8, 16]) == "[16,8,3]"
    assert golden_output("model-int8.onnx", 1) == "golden/int8-output-1.bin"


def test_a_type_that_swift_has_no_name_for_costs_the_snippet_and_says_so(bundle: Path, tmp_path: Path) -> None:
    from pipeline.packs.mobile import fill

    told = fill(bundle, tmp_path, ios.FILES, {"int8": "int8"}, PLAIN)
    assert {"files": ["CutbackModel.swift"], "why": "ONNX Runtime's interface there has no float32"} in told["refused"]
    assert not (tmp_path / "CutbackModel.swift").exists()


def test_a_missing_package_is_named_with_its_command(packed, tmp_path: Path, monkeypatch) -> None:
    folder, told = packed
    bare = tmp_path / "python"  # a Python without site-packages: no runtime is there
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    (mnn,) = (each for each in FORMATS if each.runtime == "mnn")
    inputs, outputs = golden(folder, spec_of(folder))
    monkeypatch.setattr(sys, "executable", str(bare))
    shutil.copyfile(folder / "model.onnx", tmp_path / "model.onnx")
    converted = convert_all(tmp_path, (mnn,), inputs, {"model.onnx": outputs})
    assert converted.models == {}
    (missing,) = converted.missing
    assert missing["files"] == ["model.mnn"]
    assert missing["why"].startswith("MNN cannot be imported by")
    assert missing["install"] == "pip install 'cutback[mnn]'"
    text = render(
        "README.android.md.j2",
        told={**told, "missing": converted.missing, "operators": OPERATORS, "test_data": "test_data_set_0"},
    )
    assert "Not here: model.mnn. MNN cannot be imported" in text
    assert missing["install"] in text


def test_a_bundle_that_was_changed_is_refused_and_leaves_no_folder(bundle: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(bundle, tmp_path / "bundle")
    with (changed / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BadInput, match=r"model\.onnx was changed after it was written"):
        pack(changed, "android", tmp_path / "pack")
    assert {path.name for path in tmp_path.iterdir()} == {"bundle"}


def test_a_network_that_onnx_runtime_cannot_take_leaves_no_half_of_a_pack(bundle: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(bundle, tmp_path / "bundle")
    node = onnx.helper.make_node("Frobnicate", ["x"], ["y"], "frob", domain="nowhere")
    model = model_of([node], {"x": [1, 3, 8, 8]}, {"y": [1, 10]}, {})
    model.opset_import.append(onnx.helper.make_opsetid("nowhere", 1))
    onnx.save(model, broken / "model.onnx")
    manifest = json.loads((broken / "manifest.json").read_text())
    manifest["files"] = {name: file_digest(broken / name) for name in ("model.onnx", "golden.npz")}
    write_json(broken / "manifest.json", manifest)
    with pytest.raises((BadInput, TargetError), match="Frobnicate"):
        pack(broken, "ios", tmp_path / "pack")
    assert {path.name for path in tmp_path.iterdir()} == {"bundle"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["android", "ios"])
def test_a_whole_pack_has_every_format_and_hashes_that_hold(bundle: Path, tmp_path: Path, kind: str) -> None:
    result = pack(bundle, kind, tmp_path / kind)
    manifest = json.loads((tmp_path / kind / "manifest.json").read_text())
    there = {path.relative_to(tmp_path / kind).as_posix() for path in (tmp_path / kind).rglob("*") if path.is_file()}
    assert set(manifest["files"]) == there - {"manifest.json"}
    assert all(file_digest(tmp_path / kind / name) == sha for name, sha in manifest["files"].items())
    told = {name for each in manifest["missing"] for name in each["files"]} | set(manifest["spec"]["models"])
    assert told >= {name for each in FORMATS for name in each.files}
    assert all(each["difference"] < 1e-3 for each in result["spec"]["models"].values())
