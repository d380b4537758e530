"""Channel: requests to an agent and its answers, over the standard input and output of a process (host side).

What comes from there is not trusted: lines have a longest length, files a largest size, texts lose their control
characters, and nothing in an answer names a place on this machine.
"""

import contextlib
import hashlib
import itertools
import json
import os
import queue
import select
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, final

from targets.errors import BadInput, LinkLost, TargetError
from targets.protocol import raise_error

LONGEST_LINE = 64 << 20  # bytes; the longest answers are profiles, of a few MB
DEEPEST = 32  # an answer within an answer; ours are five deep
BLOCK = 1 << 16

HEARTBEAT_S = 5.0  # how often the agent hears that its host lives
AGENT_GRACE_S = 30.0  # a busy agent shows itself every few seconds; past this it hangs or its machine does
JOIN_S = 2.0  # for what is in flight to be heard once the process has ended

Event = Callable[[Mapping[str, Any]], None]


@final
class Channel:
    """One request at a time; not for several threads. Errors: those that the agent names, `LinkLost` when it is gone,
    `TargetError` for an answer that nobody can understand."""

    def __init__(self, process: "subprocess.Popen[bytes]", name: str, explain: Callable[[int], str]) -> None:
        """`name`: of the target. `explain(status)`: what the end of the process means, in one line."""
        self.process = process
        self.names: dict[str, str] = {}  # what errors from there call a file -> what it is called here
        self._name = name
        self._explain = explain
        self._numbers = itertools.count(1)
        self._writing = threading.Lock()
        self._broken = False
        self._limit = 0  # bytes of a file that the present request may bring
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._closed = threading.Event()
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)  # who takes nothing for too long is given up
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._listen, self._beat)]
        for thread in self._threads:
            thread.start()

    def ask(
        self,
        verb: str,
        arguments: Mapping[str, Any],
        *,
        setting: Mapping[str, Any] | None = None,
        silence_s: float = AGENT_GRACE_S,
        sent: Path | None = None,
        most_bytes: int = 0,
        on_event: Event | None = None,
    ) -> tuple[Any, Path | None]:
        """The result, and the file that came with it. `setting` goes into the request beside the verb; `sent` is a file
        that follows it; `most_bytes`: how large a file may come back. Whoever gets a file removes it."""
        number = next(self._numbers)
        self._limit = most_bytes
        request = {"id": number, "verb": verb, **(setting or {}), "silence_s": silence_s, "arguments": arguments}
        self._send({**request, **({"payload": sent.stat().st_size} if sent else {})}, sent)
        got: Path | None = None
        try:
            while True:
                message = self._next(min(silence_s, AGENT_GRACE_S) + AGENT_GRACE_S)
                if message.get("id") != number:
                    self._discard(message)  # the answer to a request that was interrupted
                elif "file" in message:
                    got = message["file"]
                elif "event" in message:
                    if on_event is not None and isinstance(message["event"], dict):
                        on_event(message["event"])
                elif "error" in message:
                    raise_error(self._named(message["error"]))
                else:
                    kept, got = got, None
                    return message.get("result"), kept
        finally:
            if got is not None:
                got.unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing is written any more; the process is whoever's who started it."""
        with self._writing:
            self._closed.set()

    def join(self) -> None:
        """After the end of the process: wait until nothing of it is read any more."""
        for thread in self._threads:
            thread.join(JOIN_S)

    def _named(self, error: Any) -> dict[str, Any]:
        """The error, with the names that files have here."""
        if not isinstance(error, dict):
            return {}
        message = str(error.get("message"))
        for there, here in self.names.items():
            message = message.replace(there, here)
        return {**error, "message": message}

    def _send(self, request: Mapping[str, Any], sent: Path | None) -> None:
        assert self.process.stdin is not None
        if self._broken:
            raise LinkLost(f"The connection to {self._name} was interrupted. Connect again.")
        try:
            with self._writing:
                self._broken = True  # until all of it is through: an interrupt in between leaves half a request
                self._write(json.dumps(request).encode() + b"\n")
                if sent is not None:
                    self._write_file(sent, request["payload"])
                self._broken = False
        except (BrokenPipeError, ConnectionResetError, ValueError) as failure:
            raise self._gone() from failure

    def _write_file(self, path: Path, left: int) -> None:
        with path.open("rb") as file:
            while left:
                block = file.read(min(left, BLOCK))
                if not block:
                    raise BadInput(f"{path} changed while it was sent to {self._name}. Run the command again.")
                self._write(block)
                left -= len(block)

    def _write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        descriptor, left = self.process.stdin.fileno(), memoryview(data)
        ready = select.poll()
        ready.register(descriptor, select.POLLOUT)
        while left:
            if not ready.poll(1000 * 2 * AGENT_GRACE_S):
                raise LinkLost(f"The agent on {self._name} takes nothing of what is sent. Is the device overloaded?")
            with contextlib.suppress(BlockingIOError):
                left = left[os.write(descriptor, left) :]

    def _next(self, patience_s: float) -> dict[str, Any]:
        try:
            answer = self._answers.get(timeout=patience_s)
        except queue.Empty as failure:
            raise LinkLost(f"The agent on {self._name} does not answer. Is the device overloaded?") from failure
        if answer is None:
            self._answers.put(None)  # for whoever asks again
            raise self._gone()
        if isinstance(answer, TargetError):
            self._answers.put(answer)
            raise answer
        found: dict[str, Any] = answer
        return found

    def _gone(self) -> LinkLost:
        try:
            status = self.process.wait(AGENT_GRACE_S)
        except subprocess.TimeoutExpired:
            return LinkLost(f"The agent on {self._name} has closed its output. Connect again.")
        return LinkLost(self._explain(status))

    def _beat(self) -> None:
        assert self.process.stdin is not None
        while not self._closed.wait(HEARTBEAT_S):
            if not self._writing.acquire(timeout=HEARTBEAT_S):
                continue  # a file is on its way, which says as much
            try:
                if not self._broken and not self._closed.is_set():
                    os.write(self.process.stdin.fileno(), b"\n")
            except BlockingIOError:
                continue  # full: there is enough to read
            except (OSError, ValueError):
                return
            finally:
                self._writing.release()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        last: Any = None
        with self.process.stdout as stream, contextlib.suppress(ValueError, OSError):  # ended within a file
            try:
                while (message := self._read(stream)) is not None:
                    self._answers.put(message)
            except TargetError as failure:
                last = failure
        self._answers.put(last)

    def _read(self, stream: Any) -> dict[str, Any] | None:
        line = stream.readline(LONGEST_LINE + 1)
        if not line:
            return None
        if len(line) > LONGEST_LINE:
            raise self._senseless(f"a line of more than {LONGEST_LINE >> 20} MiB")
        try:
            message = cleaned(json.loads(line, parse_constant=refuse_constant))
        except (ValueError, RecursionError) as failure:
            raise self._senseless("something that is no JSON") from failure
        if not isinstance(message, dict):
            raise self._senseless("JSON that is no message")
        if "payload" not in message:
            message.pop("file", None)  # ours alone
            return message
        size = message["payload"]
        if type(size) is not int or not 0 <= size <= self._limit:
            raise self._senseless("a file that nobody asked for, or a larger one")
        try:
            return {"id": message.get("id"), "file": receive(stream, size)}
        except OSError as failure:
            raise TargetError(f"Cannot keep what {self._name} sends: {failure.strerror}. Free space here.") from failure

    def _senseless(self, what: str) -> TargetError:
        return TargetError(f"The agent on {self._name} answered with {what}. Is that device what you think it is?")

    def _discard(self, message: Mapping[str, Any]) -> None:
        if isinstance(message.get("file"), Path):
            message["file"].unlink(missing_ok=True)


def receive(stream: BinaryIO, size: int) -> Path:
    """The next `size` bytes as a temporary file. `ValueError` where they end early, `OSError` where a disk is full."""
    handle, name = tempfile.mkstemp(prefix="cutback-received-")
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            while size:
                block = stream.read(min(size, BLOCK))
                if not block:
                    raise ValueError("the stream ended within a file")
                file.write(block)
                size -= len(block)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def cleaned(value: Any, depth: int = 0) -> Any:
    """JSON with the control characters of its texts replaced: what a terminal would obey. `ValueError` where it is
    deeper than any answer of ours."""
    if depth > DEEPEST:
        raise ValueError("too deep")
    if isinstance(value, str):
        return value if value.isprintable() else "".join(each if each.isprintable() else "\ufffd" for each in value)
    if isinstance(value, list):
        return value if all(type(each) is int for each in value) else [cleaned(each, depth + 1) for each in value]
    if isinstance(value, dict):
        return {cleaned(key): cleaned(each, depth + 1) for key, each in value.items()}
    return value


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
