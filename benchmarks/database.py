"""The profile database under a storm of writers that are killed, and how fast it answers.

    python -m benchmarks.database storm --seconds 60 --json storm.json
    python -m benchmarks.database speed --rows 200000 --json speed.json

On SQLite and on a PostgreSQL server of its own (--on sqlite, --on postgresql: only one). Storm: 16 processes write at
once, some of it the same, and one after another is ended by SIGKILL and followed by a new one (benchmarks/storm.py).
The exit status is 1 where a row is lost, a batch is torn, or the database is not sound. Speed: seconds for each task.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.postgresql import cluster
from benchmarks.storm import RUNS, TAKEN_AT, key_of, storm
from targets.profiles.export import export
from targets.profiles.integrity import check
from targets.profiles.merge import merge
from targets.profiles.overview import coverage, kernels
from targets.profiles.search import Wanted
from targets.profiles.store import ProfileStore, Row

WRITERS = 16
MOST_LINES = 5000  # rows of one `add` when filling


@dataclass(frozen=True)
class Taken:
    """`own_s`: processor time of this process; without the server's, and without waiting for others."""

    wall_s: float
    own_s: float


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["storm", "speed"])
    parser.add_argument("--on", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--writers", type=int, default=WRITERS)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kill-every", type=float, default=0.1, help="seconds between kills, on average")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--finds", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None)
    asked = parser.parse_args(arguments)
    results: dict[str, Any] = {}
    passed = True
    for kind in asked.on or ["sqlite", "postgresql"]:
        with tempfile.TemporaryDirectory(prefix="cutback-database-") as folder, database(kind, Path(folder)) as url:
            if asked.task == "storm":
                blown = storm(url, Path(folder), asked.writers, asked.seconds, asked.kill_every, asked.seed)
                results[kind], passed = asdict(blown), passed and blown.passed
                print(f"{kind}: {'passed' if blown.passed else 'FAILED'}: {blown}", flush=True)
            else:
                taken = speed(url, Path(folder), asked.rows, asked.finds, asked.seed)
                results[kind] = {name: asdict(each) for name, each in taken.items()}
                print(f"{kind}, {asked.rows:,} rows; seconds, and of them this process's own on the processor:")
                for name, each in taken.items():
                    print(f"  {name:40} {each.wall_s:8.2f} {each.own_s:8.2f}", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=1))
    sys.exit(0 if passed else 1)


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """The URL of an empty database."""
    if kind == "sqlite":
        yield str(folder / "profiles.sqlite")
    else:
        with cluster() as server:
            yield server.new_database("profiles").render_as_string(hide_password=False)


def speed(url: str, folder: Path, rows: int, finds: int, seed: int) -> dict[str, Taken]:
    """Seconds for each task on a database with so many rows: four sessions of each kernel."""
    store = ProfileStore(url)
    generator = random.Random(seed)
    taken: dict[str, Taken] = {}
    widths = rows // 4
    with timed(taken, "fill"):
        for session in range(4):
            for first in range(0, widths, MOST_LINES):
                store.add(
                    Row(key_of(width), times(generator), f"{session}-{first}", 0, {}, TAKEN_AT)
                    for width in range(first, min(first + MOST_LINES, widths))
                )
    asked = [key_of(generator.randrange(widths)).digest for _ in range(finds)]
    with timed(taken, f"find {finds} kernels"):
        found = store.find(asked)
    with timed(taken, "mean of each row found"):
        sum(row.mean_ns for several in found.values() for row in several)
    with timed(taken, f"find {finds} kernels, 50 at a time"):
        for first in range(0, finds, 50):
            store.find(asked[first : first + 50])
    tasks: dict[str, Callable[[], object]] = {
        "overview": lambda: coverage(store.database),
        "kernels": lambda: kernels(store.database, Wanted(op="Conv"), 40),
        "export": lambda: export(store.database, folder / "all.jsonl", Wanted()),
        "export compressed": lambda: export(store.database, folder / "all.jsonl.gz", Wanted()),
        "merge again": lambda: merge(store.database, folder / "all.jsonl"),
        "merge into an empty one": lambda: merge(ProfileStore(folder / "other.sqlite").database, folder / "all.jsonl"),
        "check": lambda: check(store.database),
    }
    for name, task in tasks.items():
        with timed(taken, name):
            task()
    return taken


@contextmanager
def timed(taken: dict[str, Taken], name: str) -> Iterator[None]:
    start, start_cpu = time.perf_counter(), time.process_time()
    yield
    taken[name] = Taken(time.perf_counter() - start, time.process_time() - start_cpu)


def times(generator: random.Random) -> tuple[int, ...]:
    return tuple(generator.randrange(100_000, 110_000) for _ in range(RUNS))


if __name__ == "__main__":
    main()
