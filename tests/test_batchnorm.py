"""A network whose exporter folded batch-norm, compressed: it is trained with batch-norm and delivered without."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from pipeline.graph.execute import run_unoptimised
from pipeline.graph.flops import paper_cost
from pipeline.graph.model import free_batch, load
from tests.digits import Digits, cutback

CONVOLUTIONS = 6


def compressed(digits: Digits, output: Path, *options: object) -> Any:
    done = cutback(
        "compress", digits.folded, "--goal", "flops<=0.4x", "--data", digits.train, "--validate", digits.test, "-o",
        output, "--quick", "--sessions", 2, "--epochs", 2, "--json", *options,
    )  # fmt: skip
    assert done.status == 0, done.err
    return done.json


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.slow
def test_a_folded_network_is_trained_with_batchnorm_and_delivered_without(digits: Digits, tmp_path) -> None:
    report = compressed(digits, tmp_path / "small")
    assert operators(digits.folded).count("BatchNormalization") == 0
    (recovered,) = tmp_path.glob("small/.work/recover-*/recovered.onnx")
    left = operators(recovered).count("Conv")
    assert operators(recovered).count("BatchNormalization") == left
    for name in ("model.onnx", "engine.onnx"):
        assert operators(tmp_path / "small" / name).count("BatchNormalization") == 0
    found = report["batchnorm"]
    assert (found["put_back"], found["samples"]) == (CONVOLUTIONS, 1024)
    assert found["relative_error"] <= found["tolerance"]
    assert found["folded_relative_error"] <= found["folded_tolerance"]
    assert "put back after 6 convolutions, measured on 1024 samples" in (tmp_path / "small/report.md").read_text()

    given = {tensor.name for tensor in onnx.load(digits.folded).graph.initializer}
    delivered = load(tmp_path / "small" / "model.onnx")
    assert {tensor.name for tensor in delivered.proto.graph.initializer} <= given
    plan = json.loads((tmp_path / "small" / "plan.json").read_text())
    assert plan["tensors"].keys() <= given
    cost = paper_cost(delivered)
    assert report["flops"]["after"] == cost.flops <= 0.4 * report["flops"]["before"]
    assert report["params"]["after"] == cost.params

    pictures = np.load(digits.test)["image"][:64]
    trained, final = (
        run_unoptimised(free_batch(model), {"image": pictures})["logits"] for model in (load(recovered), delivered)
    )
    assert np.abs(trained - final).max() < 1e-4 * np.abs(trained).max()
    assert report["accuracy"]["after"] > report["accuracy"]["cut"]
    again = cutback("predict", digits.folded, "--plan", tmp_path / "small" / "plan.json", "--json")
    assert again.status == 0, again.err


@pytest.mark.slow
def test_a_folded_network_stays_as_given_when_asked(digits: Digits, tmp_path) -> None:
    # at the usual rate, which suits networks with batch norm, this one has diverged
    report = compressed(digits, tmp_path / "small", "--batchnorm", "as-given", "--lr", 0.002)
    assert report["batchnorm"] == {"put_back": 0, "because": "asked for as given"}
    assert list(tmp_path.glob("small/.work/batchnorm-*")) == []
    (recovered,) = tmp_path.glob("small/.work/recover-*/recovered.onnx")
    assert operators(recovered).count("BatchNormalization") == 0
    assert operators(tmp_path / "small" / "model.onnx") == operators(recovered)
