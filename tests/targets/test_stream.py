"""Copies through memory."""

import pytest

from targets import stream
from targets.stream import BLOCK, COPIES, copied


def test_as_many_copies_as_asked_for_each_with_a_time() -> None:
    found = copied()
    assert len(found) == COPIES
    assert min(found) > BLOCK / 1e12 * 1e9  # no memory moves a terabyte a second to one core


def test_a_device_without_room_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BLOCK", 1 << 62)
    assert copied() == []
