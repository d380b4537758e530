"""A storm: processes that write to one profile database at once, ended by SIGKILL one after another.

A writer notes a batch in a file of its own once `add` has returned. Afterwards each noted row has to be there with its
times, each batch whole or not at all, and the database sound.
"""

import multiprocessing
import os
import random
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from targets.profiles.integrity import check
from targets.profiles.key import KernelKey
from targets.profiles.store import ProfileStore, Row

KERNELS = 200  # that all writers share: most of what they write about is there already
MOST_ROWS = 12  # of a batch
COMMON = 10  # every so many batches, all writers write the same rows
RUNS = 30
TAKEN_AT = "2026-01-02T03:04:05Z"
START_S = 300  # for the first batch of every writer; a slow machine, not a limit on the database


@dataclass(frozen=True)
class Storm:
    """What came out. `batches`: acknowledged, with `rows` in all. `lost`: acknowledged rows that are not there as they
    were written. `torn`: sessions of which only a part is there. `failed`: writers that ended by themselves with an
    error. `problems`: what the integrity check says."""

    writers: int
    seconds: float
    kills: int
    batches: int
    rows: int
    lost: int
    torn: int
    failed: int
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not (self.lost or self.torn or self.failed or self.problems) and self.rows > 0


def storm(url: str, folder: Path, writers: int, seconds: float, kill_every: float, seed: int = 0) -> Storm:
    """Let them write for so long, kill as often, and look at what is left. `folder` takes the writers' notes."""
    context = multiprocessing.get_context("forkserver")  # a new writer in milliseconds, without what we hold open
    context.set_forkserver_preload(["benchmarks.storm"])
    generator = random.Random(seed)
    lives = [0] * writers
    stop = folder / "stop"

    def start(writer: int) -> Any:
        notes = folder / f"{writer}-{lives[writer]}.notes"
        process = context.Process(target=write, args=(url, notes, writer, lives[writer], stop))
        process.start()
        return process

    running = [start(writer) for writer in range(writers)]
    await_first(running, folder)
    kills = failed = 0
    ends_at = time.monotonic() + seconds
    while (left := ends_at - time.monotonic()) > 0:
        time.sleep(min(left, generator.expovariate(1 / kill_every)))
        writer = generator.randrange(writers)
        if running[writer].is_alive():
            os.kill(running[writer].pid, signal.SIGKILL)
            kills += 1
        failed += ended_badly(running[writer])
        lives[writer] += 1
        running[writer] = start(writer)
    stop.touch()
    failed += sum(ended_badly(process) for process in running)
    return judged(url, folder, Storm(writers, seconds, kills, 0, 0, 0, 0, failed, ()))


def await_first(running: list[Any], folder: Path) -> None:
    """Until every writer has written once, or ended."""
    ends_at = time.monotonic() + START_S
    while time.monotonic() < ends_at:
        if all((folder / f"{writer}-0.notes").exists() or not p.is_alive() for writer, p in enumerate(running)):
            return
        time.sleep(0.05)


def ended_badly(process: Any) -> bool:
    process.join()
    status = process.exitcode
    process.close()
    return status not in (0, -signal.SIGKILL)


def write(url: str, notes: Path, writer: int, life: int, stop: Path) -> None:
    """One writer: it notes each batch after `add` has returned, in one call to the system."""
    os.nice(5)  # where cores are few, the one that kills has to get its turn
    store = ProfileStore(url)
    number = 0
    descriptor = None
    while not stop.exists():
        session = f"common-{number // COMMON}" if number % COMMON == 0 else f"{writer}-{life}-{number}"
        store.add(batch(session))
        if descriptor is None:
            descriptor = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{session}\n".encode())
        number += 1


def batch(session: str) -> list[Row]:
    """The rows of a session: the session's name says everything about them."""
    generator = random.Random(session)
    widths = generator.choices(range(1, KERNELS + 1), k=generator.randint(1, MOST_ROWS))
    times = [tuple(generator.randrange(1_000, 1_000_000) for _ in range(RUNS)) for _ in widths]
    observed = {"host": session.partition("-")[0]}
    return [
        Row(key_of(width), each, session, index, observed, TAKEN_AT)
        for index, (width, each) in enumerate(zip(widths, times, strict=True))
    ]


def key_of(width: int, stack: str = "1.0") -> KernelKey:
    op = {"op": "Conv", "spatial": [28, 28], "kernel": [3, 3], "other": width % 7, "width": width}
    device = {"cpu": "benchmark", "cores": 2, "features": ["avx2", "fma"]}
    method = {"timing": 1, "place": "staircase"}
    return KernelKey(device, {"runtime": "none", "version": stack}, {"threads": 1, "governor": None}, op, method)


def judged(url: str, folder: Path, storm: Storm) -> Storm:
    """Every note against the database."""
    noted = {line for notes in folder.glob("*.notes") for line in notes.read_text().split("\n")[:-1]}
    store = ProfileStore(url)
    there: dict[str, set[Row]] = {}
    found = store.find([key_of(width).digest for width in range(1, KERNELS + 1)])
    rows = {(row.session_id, row.index, digest): row for digest, several in found.items() for row in several}
    for session, *_ in rows:
        there.setdefault(session, set())
    lost = torn = written = 0
    for session in noted | there.keys():
        wanted = batch(session)
        missing = sum(rows.get((session, row.index, row.key.digest)) != row for row in wanted)
        if session in noted:
            lost, written = lost + missing, written + len(wanted)
        torn += session in there and bool(missing)
    _, problems = check(store.database)
    done = {**asdict(storm), "batches": len(noted), "rows": written, "lost": lost, "torn": torn}
    return Storm(**{**done, "problems": tuple(problems)})
