"""One connection for all tests that do not harm it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from targets.connection import Connection, connect
from targets.target import Target
from tests.targets.models import residual, saved


@pytest.fixture(scope="session")
def connection() -> Iterator[Connection]:
    with connect(Target("local")) as opened:
        yield opened


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(residual(), tmp_path / "residual.onnx")
