"""Channel: requests to an agent and its answers, over the standard input and output of a process (host side).

What comes from there is not trusted: lines have a longest length, files a largest size and a slowest pace, answers come
no faster than they are read, texts lose their control characters, and nothing in an answer names a place on this
machine. What the answers say is for `targets.answers` to check.
"""

import contextlib
import hashlib
import itertools
import json
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, final

from targets.errors import BadInput, LinkLost, TargetError
from targets.foreign_json import parsed
from targets.pipes import write_all
from targets.protocol import raise_error

LONGEST_LINE = 32 << 20  # bytes; the longest answers are profiles, of a few MB
LONGEST_EVENT = 1 << 12
BLOCK = 1 << 16
WAITING = 2  # messages that are read ahead; a device that says more waits until they were taken

HEARTBEAT_S = 5.0  # how often the agent hears that its host lives
AGENT_GRACE_S = 30.0  # a busy agent shows itself every few seconds; past this it hangs or its machine does
END_GRACE_S = 5.0  # for the status of a process that has closed its output
JOIN_S = 2.0  # for what is in flight to be heard once the process has ended

SLOWEST_BYTES_PER_S = 4000  # of a file, over all of it; a serial line has twice that
PACE_GRACE_S = 60.0  # before the pace is looked at

# Events for one request: progress, signs of life, and what an interrupted request left. More is a flood.
MOST_MESSAGES = 10_000
MESSAGES_PER_S = 100

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
        self._open: set[int] = set()  # requests without an answer: the present one, and those that were interrupted
        self._allowed: dict[int, int] = {}  # request -> bytes of the one file that its answer may bring
        self._moved = 0.0  # when the last bytes of a file came
        self._folder = ""  # of files that came; made for the first one
        self._answers: queue.Queue[Any] = queue.Queue(WAITING)
        self._closed = threading.Event()
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
        self._open.add(number)
        if most_bytes:
            self._allowed[number] = most_bytes
        request = {"id": number, "verb": verb, **(setting or {}), "silence_s": silence_s, "arguments": arguments}
        self._send({**request, **({"payload": sent.stat().st_size} if sent else {})}, sent)
        # a busy agent shows itself; one that writes or reads a file does not
        patience_s = silence_s if sent or most_bytes else min(silence_s, AGENT_GRACE_S) + AGENT_GRACE_S
        got: Path | None = None
        begin, messages = time.monotonic(), 0
        try:
            while True:
                message = self._next(patience_s)
                messages += 1
                if messages > MOST_MESSAGES + MESSAGES_PER_S * (time.monotonic() - begin):
                    self._discard(message)
                    raise self._senseless("more than anybody could ask for")
                answered = message.get("id")
                if type(answered) is not int or answered not in self._open:
                    self._discard(message)
                    raise self._senseless("what nobody asked")
                if "event" not in message and "file" not in message:
                    self._open.discard(answered)
                    self._allowed.pop(answered, None)
                if answered != number:
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
        """No more heartbeats, and nothing is kept of what came and was not asked for; the process is whoever's who
        started it."""
        self._closed.set()
        with self._writing:  # a heartbeat that was on its way is through: its pipe may be closed now
            pass
        self._forget()

    def join(self) -> None:
        """After the end of the process: wait until nothing of it is read any more."""
        for thread in self._threads:
            thread.join(JOIN_S)

    def _named(self, error: Any) -> dict[str, Any]:
        """The error, with the names that files have here."""
        if not isinstance(error, dict) or not isinstance(error.get("message"), str):
            return {}
        message = error["message"]
        for there, here in self.names.items():
            message = message.replace(there, here) if there else message
        return {**error, "message": message}

    def _send(self, request: Mapping[str, Any], sent: Path | None) -> None:
        if self._broken:
            raise LinkLost(f"The connection to {self._name} was interrupted. Connect again.")
        try:
            with self._writing:
                self._broken = True  # until all of it is through: an interrupt in between leaves half a request
                self._write(json.dumps(request).encode() + b"\n")
                if sent is not None:
                    self._write_file(sent, request["payload"])
                self._broken = False
        except TimeoutError as failure:
            raise LinkLost(f"The agent on {self._name} takes nothing more. Is the device overloaded?") from failure
        except (BrokenPipeError, ConnectionResetError, ValueError) as failure:
            raise self._gone() from failure

    def _write_file(self, path: Path, size: int) -> None:
        """As many bytes as were announced: what follows them is read as a request."""
        begin, done = time.monotonic(), 0
        with path.open("rb") as file:
            while done < size:
                block = file.read(min(size - done, BLOCK))
                if not block:
                    raise BadInput(f"{path} changed while it was sent to {self._name}. Run the command again.")
                self._write(block)
                done += len(block)
                if too_slow(done, begin):
                    raise TimeoutError

    def _write(self, data: bytes, patience_s: float | None = None) -> None:
        assert self.process.stdin is not None
        write_all(self.process.stdin.fileno(), data, AGENT_GRACE_S if patience_s is None else patience_s)

    def _next(self, patience_s: float) -> dict[str, Any]:
        begin = time.monotonic()
        while True:
            left_s = max(begin, self._moved) + patience_s - time.monotonic()
            try:
                answer = self._answers.get(timeout=max(left_s, 0.0))
                break
            except queue.Empty as failure:
                if max(begin, self._moved) + patience_s <= time.monotonic():
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
            status = self.process.wait(END_GRACE_S)
        except subprocess.TimeoutExpired:
            return LinkLost(f"The agent on {self._name} has closed its output. Connect again.")
        return LinkLost(self._explain(status))

    def _beat(self) -> None:
        while not self._closed.wait(HEARTBEAT_S):
            if not self._writing.acquire(timeout=HEARTBEAT_S):
                continue  # a file is on its way, which says as much
            try:
                if not self._broken and not self._closed.is_set():
                    self._write(b"\n", HEARTBEAT_S / 5)
            except TimeoutError:
                continue  # nothing is taken: whoever asks will find out
            except (OSError, ValueError):
                return
            finally:
                self._writing.release()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        last: Any = None
        with self.process.stdout as stream, contextlib.suppress(ValueError, OSError):  # it ended within a file
            try:
                while (message := self._read(stream)) is not None:
                    self._hand_over(message)
            except TargetError as failure:
                last = failure
        self._hand_over(last)
        if self._closed.is_set():  # a file may have begun while what there was went
            self._forget()

    def _hand_over(self, message: Any) -> None:
        """Wait until it is wanted: what nobody takes is not read, and the device has to wait too."""
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._answers.put(message, timeout=1.0)
                return

    def _read(self, stream: IO[bytes]) -> dict[str, Any] | None:
        line = stream.readline(LONGEST_LINE + 1)
        if not line:
            return None
        if len(line) > LONGEST_LINE:
            raise self._senseless(f"a line of more than {LONGEST_LINE >> 20} MiB")
        try:
            message = parsed(line)
        except ValueError as failure:
            raise self._senseless(f"something that is no JSON of ours ({str(failure)[:80]})") from failure
        if not isinstance(message, dict):
            raise self._senseless("JSON that is no message")
        if "event" in message and len(line) > LONGEST_EVENT:
            raise self._senseless("an event of pages")
        if "payload" not in message:
            message.pop("file", None)  # ours alone
            return message
        number, size = message.get("id"), message["payload"]
        limit = self._allowed.pop(number, -1) if type(number) is int else -1
        if type(size) is not int or not 0 <= size <= limit:
            raise self._senseless("a file that nobody asked for, or a larger one")
        try:
            return {"id": number, "file": self._receive(stream, size)}
        except OSError as failure:
            raise TargetError(f"Cannot keep what {self._name} sends: {failure.strerror}. Free space here.") from failure

    def _receive(self, stream: IO[bytes], size: int) -> Path:
        """The next bytes as a temporary file. `ValueError` where they end early, `OSError` where a disk is full."""
        self._folder = self._folder or tempfile.mkdtemp(prefix="cutback-received-")
        with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
            path, begin, done = Path(file.name), time.monotonic(), 0
            try:
                while done < size:
                    block = stream.read1(min(size - done, BLOCK))  # type: ignore[attr-defined]
                    if not block:
                        raise ValueError("the stream ended within a file")
                    file.write(block)
                    done += len(block)
                    self._moved = time.monotonic()
                    if too_slow(done, begin):
                        raise LinkLost(f"{self._name} sends a file so slowly that it would never end.")
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        return path

    def _forget(self) -> None:
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _senseless(self, what: str) -> TargetError:
        return TargetError(f"The agent on {self._name} answered with {what}. Is that device what you think it is?")

    def _discard(self, message: Mapping[str, Any]) -> None:
        if isinstance(message.get("file"), Path):
            message["file"].unlink(missing_ok=True)


def too_slow(done: int, begin: float) -> bool:
    return done < SLOWEST_BYTES_PER_S * (time.monotonic() - begin - PACE_GRACE_S)


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
