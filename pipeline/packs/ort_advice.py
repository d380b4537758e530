"""What ONNX Runtime's own tools say of a model for phones: the operators that a build needs, and how usable it is."""

import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from targets.errors import TargetError
from targets.protocol import one_line

OPERATORS = "required_operators.config"
USABILITY = "mobile-usability.txt"


def write_operators(models: Sequence[Path], output: Path) -> None:
    """`models`: in ONNX Runtime's format. What `build.sh --include_ops_by_config` of a small build reads."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    from onnxruntime.tools.ort_format_model import create_config_from_models

    logging.getLogger("ort_format_model.utils").setLevel(logging.WARNING)  # it would tell where files are made
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves what it reads to be closed by others
        create_config_from_models(models, output, False)
    text = output.read_text(encoding="utf-8")
    for model in models:  # by their names: where they were made says nothing
        text = text.replace(str(model), model.name)
    output.write_text(text, encoding="utf-8")


def write_usability(model: Path, output: Path) -> bool:
    """`model`: ONNX. The text of the mobile usability check. Returns whether it advises to try NNAPI or CoreML."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    from onnxruntime.tools.mobile_helpers import usability_checker

    lines: list[str] = []
    logger = logging.Logger("mobile usability", logging.INFO)  # of its own: nothing reaches the root's handlers
    logger.addHandler(Lines(lines))
    try:
        advised = bool(usability_checker.analyze_model(model, skip_optimize=False, logger=logger))
    except Exception as failure:  # whatever the tool meets
        raise TargetError(
            f"ONNX Runtime's mobile usability check fails on {model.name}: {one_line(str(failure))}"
        ) from failure
    output.write_text("\n".join(line.replace(f"{model.parent}{os.sep}", "") for line in lines) + "\n", encoding="utf-8")
    return advised


class Lines(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())
