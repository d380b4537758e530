"""Networks that others trained: each is inspected, cut, proven and compressed, or says in one line why it cannot be.

`CUTBACK_MODELS` names a folder of .onnx files; every file in it is taken. docs/results.md lists those tried so far.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from pipeline.graph.model import input_specs
from tests.digits import cutback

FOLDER = os.environ.get("CUTBACK_MODELS", "")
FILES = sorted(Path(FOLDER).glob("*.onnx")) if FOLDER else []
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FILES, reason="CUTBACK_MODELS names no folder with .onnx files"),
]
FREE = 64  # what a free dimension that is not the batch is bound to
SAMPLES = 8
EXACT = 1e-4


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    specs = input_specs(onnx.load(path, load_external_data=False))
    return {
        spec.name: tuple(
            size if isinstance(size, int) else 1 if axis == 0 and len(spec.shape) > 1 else FREE
            for axis, size in enumerate(spec.shape)
        )
        for spec in specs
    }


def bindings(path: Path) -> list[str]:
    return [
        part
        for name, shape in shapes(path).items()
        if shape
        for part in ("--shape", f"{name}={','.join(map(str, shape))}")
    ]


def samples(path: Path, folder: Path) -> Path:
    """Random samples for every input of the model."""
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for spec in input_specs(onnx.load(path, load_external_data=False)):
        shape = (SAMPLES, *shapes(path)[spec.name][1:])
        drawn = generator.standard_normal(shape) if spec.dtype.startswith("float") else generator.integers(0, 2, shape)
        arrays[spec.name] = np.asarray(drawn).astype(spec.dtype)
    written = folder / "samples.npz"
    np.savez(written, **arrays)
    return written


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def model(request) -> Path:
    path: Path = request.param
    return path


def test_every_group_is_free_or_says_why_not(model) -> None:
    result = cutback("inspect", model, *bindings(model), "--json")
    assert result.status == 0
    found = result.json
    assert found["groups"] or found["not_followed"]
    assert all(group["locked"] is None or group["locked"].strip() for group in found["groups"])


def test_half_of_every_group_goes_and_the_cut_proves_itself(model, tmp_path) -> None:
    output = tmp_path / "cut.onnx"
    result = cutback("prune", model, "-o", output, "--keep", "0.5", *bindings(model), "--json")
    if result.status:
        assert result.status == 2
        assert "No group of channels may be cut (" in result.error
        assert not output.exists()
        return
    cut = result.json
    assert cut["flops"]["after"] < cut["flops"]["before"]
    assert cut["proof"]["relative_error"] < EXACT
    assert cut["proof"]["inexact_groups"] == 0
    onnx.checker.check_model(output)


def test_compress_to_a_share_of_the_flops_with_random_samples(model, tmp_path) -> None:
    output = tmp_path / "bundle"
    result = cutback(
        "compress", model, "--goal", "flops<=0.6x", "--data", samples(model, tmp_path), "--epochs", "1",
        "--samples", SAMPLES, "--batch-size", "2", "--sessions", "2", "--quick", *bindings(model),
        "-o", output, "--json",
    )  # fmt: skip
    if result.status == 2:
        assert result.error
        return
    report = result.json
    assert report["flops"]["after"] <= 0.6 * report["flops"]["before"]
    onnx.checker.check_model(output / "model.onnx")
