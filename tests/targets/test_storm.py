"""Writers that are killed: what they were told is kept is kept."""

import sqlite3
from pathlib import Path

import pytest

from benchmarks.storm import Storm, batch, judged, storm
from targets.profiles.store import ProfileStore


def test_no_acknowledged_row_is_lost_when_writers_are_killed(url: str, tmp_path: Path) -> None:
    blown = storm(url, tmp_path, writers=16, seconds=3, kill_every=0.1)
    assert (blown.lost, blown.torn, blown.failed, blown.problems) == (0, 0, 0, ())
    assert blown.kills > 0
    assert blown.batches >= 16


@pytest.mark.parametrize("damage", ["lost", "torn", "changed"])
def test_the_judge_of_the_storm_sees_what_is_missing(tmp_path: Path, damage: str) -> None:
    path, session = tmp_path / "p.sqlite", next(f"0-0-{n}" for n in range(100) if len(batch(f"0-0-{n}")) > 1)
    ProfileStore(path).add(batch(session))
    (tmp_path / "0-0.notes").write_text(f"{session}\n1-0-")  # the second note was cut short: it says nothing
    still = Storm(1, 0, 0, 0, 0, 0, 0, 0, ())
    assert judged(str(path), tmp_path, still).passed
    statement = {
        "lost": "DELETE FROM samples",
        "torn": 'DELETE FROM samples WHERE "index" = 0',
        "changed": "UPDATE samples SET samples_ns = '[1]' WHERE \"index\" = 0",
    }[damage]
    with sqlite3.connect(path) as raw:
        raw.execute(statement)
    raw.close()
    found = judged(str(path), tmp_path, still)
    assert found.lost == (len(batch(session)) if damage == "lost" else 1)
    assert found.torn == (damage != "lost")
    assert not found.passed
