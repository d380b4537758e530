"""One connection to this device for all stages that need one."""

from collections.abc import Iterator

import pytest

from targets.connection import Connection, connect
from targets.target import Target


@pytest.fixture(scope="session")
def connection() -> Iterator[Connection]:
    with connect(Target("local")) as opened:
        yield opened
