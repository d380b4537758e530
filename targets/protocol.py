"""Lines of JSON between host, agent and worker (device side).

A request is `{"id", "verb", "arguments"}`. It is answered by any number of `{"id", "event"}` and then exactly one
`{"id", "result"}` or `{"id", "error": {"kind", "message"}}`. Either way a line with `"payload": N` is followed by the N
bytes of a file; in an answer it is a line of its own, `{"id", "payload"}`, before the result. Empty lines from the host
say that it lives.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Iterator, TextIO

from targets.errors import BadInput, CutbackError, LinkLost, NoKernelTimes, RuntimeMissing, TargetError

VERSION = 2

ERRORS: dict[str, type[CutbackError]] = {
    "bad-input": BadInput,
    "runtime-missing": RuntimeMissing,
    "no-kernel-times": NoKernelTimes,
    "target": TargetError,
    "link-lost": LinkLost,  # between an agent here and the device that it speaks for
}

LONGEST_MESSAGE = 400  # characters; a runtime can put a whole graph into one message


def claim_stdout() -> TextIO:
    """Take this process's standard output for the protocol; whatever else prints to it then goes to standard error."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(saved, "w", encoding="utf-8")


def send(stream: TextIO, message: dict[str, Any]) -> None:
    stream.write(json.dumps(message, separators=(",", ":")) + "\n")
    stream.flush()


def error_of(failure: BaseException) -> dict[str, str]:
    """The `error` of an answer. Whatever is not of our own tree is a failure of the target."""
    kind = next((kind for kind, form in ERRORS.items() if type(failure) is form), "target")
    message = str(failure) if isinstance(failure, CutbackError) else f"{type(failure).__name__}: {failure}"
    return {"kind": kind, "message": one_line(message)}


def raise_error(error: dict[str, Any]) -> None:
    """The other end of `error_of`, which may be no agent of ours."""
    kind, message = error.get("kind"), error.get("message")
    form = ERRORS.get(kind, TargetError) if isinstance(kind, str) else TargetError
    said = one_line(message) if isinstance(message, str) else ""
    raise form(said or "It failed over there, and nothing says why. Look at the device.")


def one_line(text: str) -> str:
    """The text with its line breaks folded and its middle cut out where it is long."""
    line = " ".join(text.split())
    if len(line) <= LONGEST_MESSAGE:
        return line
    half = LONGEST_MESSAGE // 2
    return f"{line[:half]} ... {line[-half:]}"


class Lines:
    """Bytes in, whole lines out: for a reader that must not block on half a line."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        return iter(lines)
