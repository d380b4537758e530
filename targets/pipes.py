"""Writing to a process that may not read (host side)."""

import os
import selectors


def write_all(pipe: int, data: bytes, patience_s: float) -> None:
    """All of `data`. `TimeoutError` where the other side takes nothing for `patience_s`; what was taken until then is
    not known. Leaves the pipe non-blocking at this end."""
    os.set_blocking(pipe, False)
    view = memoryview(data)
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_WRITE)
        while view:
            if not selector.select(patience_s):
                raise TimeoutError
            try:
                view = view[os.write(pipe, view) :]
            except BlockingIOError:  # another thread of ours was first
                continue
