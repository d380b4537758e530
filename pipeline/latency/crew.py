"""Work shared out among connections: each takes the next piece when it is free."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from targets.connection import Connection

LOOKED_EVERY_S = 1.0

Piece = TypeVar("Piece")
Found = TypeVar("Found")


def shared_out(
    work: Iterator[Piece],
    crew: Sequence[Connection],
    do: Callable[[Piece, Connection], Found],
    on_wait: Callable[[], None],
) -> Iterator[tuple[Piece, Found]]:
    """What `do` finds for each piece, in the order in which they are done. One connection does all in this thread, one
    after the other. Each of several has a thread for `do`; `work` is drawn from in this one. `on_wait` is called every
    second or so meanwhile. The first failure ends all."""
    if len(crew) == 1:
        for piece in work:
            yield piece, do(piece, crew[0])
        return
    done: queue.SimpleQueue[tuple[Connection, Piece, Found | BaseException]] = queue.SimpleQueue()
    busy: dict[int, threading.Thread] = {}
    free = list(crew)

    def run(piece: Piece, connection: Connection) -> None:
        try:
            found: Found | BaseException = do(piece, connection)
        except BaseException as failure:  # noqa: BLE001 -- raised in the thread that waits for it
            found = failure
        done.put((connection, piece, found))

    try:
        left = True
        while left or busy:
            while left and free:
                for piece in work:
                    connection = free.pop()
                    busy[id(connection)] = threading.Thread(target=run, args=(piece, connection), daemon=True)
                    busy[id(connection)].start()
                    break
                else:
                    left = False
            if not busy:
                break
            try:
                connection, piece, found = done.get(timeout=LOOKED_EVERY_S)
            except queue.Empty:
                on_wait()
                continue
            busy.pop(id(connection)).join()
            free.append(connection)
            if isinstance(found, BaseException):
                raise found
            yield piece, found
    finally:
        for connection in crew:
            if id(connection) in busy:
                connection.interrupt()
        for thread in busy.values():
            thread.join()


def at_work(crew: Sequence[Connection]) -> str:
    """For a person: what they do just now."""
    if len(crew) == 1:
        return ""
    running = {connection.place for connection in crew if connection.place}
    waiting = sum(not connection.place for connection in crew)
    again = sum(connection.repeated for connection in crew)
    parts = [f"{len(running)} devices at work"]
    parts += [f"{waiting} waiting"] if waiting else []
    parts += [f"{again} asked again after a device was lost"] if again else []
    return f" ({', '.join(parts)})"
