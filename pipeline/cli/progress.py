"""Progress on standard error: a bar on a terminal, now and then a line elsewhere."""

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SECONDS_BETWEEN_LINES = 10.0  # in a log, a line each time would bury what matters


class Shown(ABC):
    """Called with (done, total, note) as work goes on; a total of zero is of unknown length."""

    @abstractmethod
    def __call__(self, done: int, total: int, note: str) -> None: ...

    @abstractmethod
    def line(self, text: str) -> None:
        """Something that stays to be read."""


@contextmanager
def progress() -> Iterator[Shown]:
    """For as long as the block runs."""
    if sys.stderr.isatty():
        with bar() as show:
            yield show
    else:
        yield Lines()


@contextmanager
def bar() -> Iterator[Shown]:
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
        yield Bar(drawn, drawn.add_task("", total=None))


class Bar(Shown):
    def __init__(self, drawn: "Progress", task: "TaskID") -> None:
        self._drawn = drawn
        self._task = task

    def __call__(self, done: int, total: int, note: str) -> None:
        self._drawn.update(self._task, completed=done, total=total or None, description=note.replace("[", r"\["))

    def line(self, text: str) -> None:
        self._drawn.console.print(text, markup=False, soft_wrap=True)


class Lines(Shown):
    def __init__(self) -> None:
        self._note, self._time = "", float("-inf")

    def __call__(self, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if note != self._note and now - self._time >= SECONDS_BETWEEN_LINES:
            self.line(f"{note} ({done}/{total})" if total else note)
            self._note, self._time = note, now

    def line(self, text: str) -> None:
        sys.stderr.write(f"cutback: {text}\n")
        sys.stderr.flush()
