"""Progress on standard error: a bar on a terminal, now and then a line elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OnProgress = Callable[[int, int, str], None]

SECONDS_BETWEEN_LINES = 10.0  # in a log, a line each time would bury what matters


@contextmanager
def progress() -> Iterator[OnProgress]:
    """A callback (done, total, note) for as long as the block runs; a total of zero is of unknown length."""
    if sys.stderr.isatty():
        with bar() as show:
            yield show
    else:
        yield lines()


@contextmanager
def bar() -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:
        task = drawn.add_task("", total=None)

        def show(done: int, total: int, note: str) -> None:
            drawn.update(task, completed=done, total=total or None, description=note.replace("[", r"\["))

        yield show


def lines() -> OnProgress:
    last_note, last_time = "", float("-inf")

    def show(done: int, total: int, note: str) -> None:
        nonlocal last_note, last_time
        now = time.monotonic()
        if note != last_note and now - last_time >= SECONDS_BETWEEN_LINES:
            sys.stderr.write(f"cutback: {note} ({done}/{total})\n" if total else f"cutback: {note}\n")
            sys.stderr.flush()
            last_note, last_time = note, now

    return show
