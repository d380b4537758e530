"""`cutback build --keep-onnx`: what an engine was built from, for a device that builds its own."""

from pathlib import Path

import onnx
import pytest

from pipeline.build import build
from targets.errors import BadInput
from tests.targets.models import residual, saved


def test_what_the_engine_was_built_from_is_kept_casts_and_all(tmp_path: Path) -> None:
    model = saved(residual(), tmp_path / "m.onnx")
    done = build(str(model), tmp_path / "e", precision="fp16", keep_onnx=tmp_path / "half.onnx")
    assert done["onnx"] == str(tmp_path / "half.onnx")
    weights = {tensor.data_type for tensor in onnx.load(tmp_path / "half.onnx").graph.initializer}
    assert onnx.TensorProto.FLOAT16 in weights
    assert build(str(model), tmp_path / "e")["onnx"] is None


def test_it_does_not_overwrite_the_model(tmp_path: Path) -> None:
    model = saved(residual(), tmp_path / "m.onnx")
    before = model.read_bytes()
    with pytest.raises(BadInput, match=r"would overwrite .* Choose another --keep-onnx"):
        build(str(model), tmp_path / "e", keep_onnx=model)
    assert model.read_bytes() == before
