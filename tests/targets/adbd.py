"""A stand-in for an Android phone: what a real `adb` client and server talk to, on loopback alone.

**No phone is behind it.** It speaks the device's side of the public ADB protocol (CNXN, AUTH, OPEN, OKAY, WRTE, CLSE;
the services `shell,v2,raw:` and `sync:`) and runs commands with this machine's /bin/sh. ANDROID_DATA, which on a phone
is /data, points into a folder of the test; `getprop` and `dumpsys` are small scripts in front of the PATH. Nothing is
learnt here about a phone's speed, its shell (mksh) or its tools (toybox).
"""

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from targets.target import Target
from tests.targets.sshd import free_port

ADB = shutil.which("adb")

VERSION, MOST_BYTES = 0x01000001, 1 << 18  # from this version on nobody checks sums
BANNER = b"device::ro.product.name=stand_in;ro.product.model=Stand-in;ro.product.device=none;features=shell_v2,cmd\0"
TOKEN = 1  # the kind of AUTH that asks for a signature
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)  # of the shell protocol

PROPERTIES = {
    "ro.product.manufacturer": "Nobody",
    "ro.product.model": "Stand-in",
    "ro.soc.model": "STAND-IN-1",
    "ro.build.version.release": "15",
    "ro.build.version.sdk": "35",
    "ro.serialno": "STANDIN0001",
    "ro.boot.qemu": "1",  # as on an emulator: its times are nobody's, and the profile database refuses them
}


class NoAdb(Exception):
    """No adb client is installed here."""


@dataclass
class Phone:
    """`manner`: "ready", "unauthorized" (it never accepts a key) or "offline" (it never answers). `path`: where its
    shell looks for programs, behind its own; `damages`: what is pushed arrives changed."""

    folder: Path
    port: int
    manner: str = "ready"
    path: str = field(default_factory=lambda: os.environ["PATH"])
    damages: bool = False
    commands: list[str] = field(default_factory=list)  # every one that was run, as it came
    links: list[socket.socket] = field(default_factory=list)
    shells: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def serial(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        """What /data is on a phone."""
        return self.folder / "data"

    @property
    def base(self) -> Path:
        return self.data / "local/tmp/cutback"

    def target(self, name: str = "phone", **settings: str) -> Target:
        return Target(name, "adb", address=self.serial, **settings)  # type: ignore[arg-type]

    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.folder}/bin:{self.path}",
            "ANDROID_DATA": str(self.data),
            "HOME": "/",
            "LANG": "C.UTF-8",
        }

    def unplug(self) -> None:
        """Every connection ends at once, as when a cable is pulled."""
        for link in self.links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
        self.links.clear()

    def heat(self, status: int) -> None:
        """What Android's thermal service says from now on."""
        thermal = f"echo 'IsStatusOverride: false'; echo 'Thermal Status: {status}'"
        battery = "echo '  level: 80'; echo '  status: 4'"  # which is neither full nor charged
        script(self.folder / "bin/dumpsys", f'case "$1" in\nthermalservice) {thermal};;\nbattery) {battery};;\nesac')


@contextlib.contextmanager
def plug_in(folder: Path, manner: str = "ready") -> Iterator[Phone]:
    """A phone that listens for as long as the block runs; whoever wants it says `adb connect`."""
    phone = Phone(folder, free_port(), manner)
    (phone.data / "local/tmp").mkdir(parents=True)
    (folder / "bin").mkdir()
    cases = "\n".join(f"{name}) echo '{value}';;" for name, value in PROPERTIES.items())
    script(folder / "bin/getprop", f'case "$1" in\n{cases}\nesac')
    script(folder / "bin/cmd", "echo 0")  # of `cmd settings get`: power saving is off
    phone.heat(0)
    listener = socket.create_server(("127.0.0.1", phone.port))
    threading.Thread(target=accept, args=(listener, phone), daemon=True).start()
    try:
        yield phone
    finally:
        listener.close()
        phone.unplug()
        for shell in phone.shells:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()


@contextlib.contextmanager
def own_server(folder: Path, home: bool = True) -> Iterator[int]:
    """An adb server of our own on a port of its own, with its key in `folder`; a user's is not touched. The
    environment says so to every client that is started meanwhile. With `home` that is everybody's home meanwhile: a
    client that finds no server starts one, with a key from there."""
    if ADB is None:
        raise NoAdb("adb is not installed (Debian: adb)")
    folder.mkdir(parents=True, exist_ok=True)
    port, private = {"ANDROID_ADB_SERVER_PORT": str(free_port())}, {"HOME": str(folder), "TMPDIR": str(folder)}
    own = {**port, **(private if home else {})}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        subprocess.run(
            ["adb", "start-server"], stdin=-3, stdout=-3, stderr=-3, env={**os.environ, **private}, check=True
        )
        yield int(port["ANDROID_ADB_SERVER_PORT"])
    finally:
        adb("kill-server")
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def adb(*arguments: str) -> str:
    done = subprocess.run(["adb", *arguments], stdin=-3, stdout=-1, stderr=-3, text=True, timeout=30, check=False)
    return done.stdout


def script(path: Path, body: str) -> None:
    beside = path.with_name(f".{path.name}")
    beside.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    beside.chmod(0o755)
    beside.replace(path)


def accept(listener: socket.socket, phone: Phone) -> None:
    while True:
        try:
            link, _ = listener.accept()
        except OSError:
            return  # the phone is gone
        phone.links.append(link)
        threading.Thread(target=Transport(link, phone).serve, daemon=True).start()


class Transport:
    """One connection of an adb server. Streams are numbered from one; each has a thread of its own."""

    def __init__(self, link: socket.socket, phone: Phone) -> None:
        self._link = link
        self._phone = phone
        self._writing = threading.Lock()
        self._streams: dict[int, Stream] = {}

    def serve(self) -> None:
        try:
            while True:
                command, first, second, payload = self._read()
                if command == b"CNXN":
                    self._greet()
                elif command == b"AUTH":
                    self.send(b"AUTH", TOKEN, 0, bytes(20))  # no key is good enough
                elif command == b"OPEN":
                    self._open(first, payload.rstrip(b"\0").decode())
                elif second in self._streams:
                    self._streams[second].take(command, payload)
                    if command == b"CLSE":
                        del self._streams[second]
        except OSError:
            pass
        finally:
            self._link.close()
            for stream in self._streams.values():
                stream.take(b"CLSE", b"")

    def send(self, command: bytes, first: int, second: int, payload: bytes = b"") -> None:
        kind = int.from_bytes(command, "little")
        head = struct.pack("<6I", kind, first, second, len(payload), 0, kind ^ 0xFFFFFFFF)
        with self._writing:
            self._link.sendall(head + payload)

    def _greet(self) -> None:
        if self._phone.manner == "unauthorized":
            self.send(b"AUTH", TOKEN, 0, bytes(20))
        elif self._phone.manner == "ready":
            self.send(b"CNXN", VERSION, MOST_BYTES, BANNER)

    def _open(self, remote: int, service: str) -> None:
        kind, _, argument = service.partition(":")
        if kind != "sync" and not (kind.startswith("shell,v2,") and kind.endswith("raw")):
            self.send(b"CLSE", 0, remote)
            return
        number = max(self._streams, default=0) + 1
        stream = self._streams[number] = Stream(self, number, remote)
        self.send(b"OKAY", number, remote)
        work = run_shell if kind != "sync" else sync
        threading.Thread(target=stream.work, args=(work, self._phone, argument), daemon=True).start()

    def _read(self) -> tuple[bytes, int, int, bytes]:
        kind, first, second, size, _, _ = struct.unpack("<6I", exactly(self._link, 24))
        return kind.to_bytes(4, "little"), first, second, exactly(self._link, size)


class Closed(Exception):
    """The other end has closed the stream."""


class Stream:
    """Bytes both ways; one packet is on its way at a time, until the other end says OKAY."""

    def __init__(self, transport: Transport, number: int, remote: int) -> None:
        self._transport = transport
        self._ends = (number, remote)
        self._came = threading.Condition()
        self._buffer = b""
        self._closed = False
        self._may_write = True

    def work(self, service: object, phone: Phone, argument: str) -> None:
        assert callable(service)
        with contextlib.suppress(Closed, OSError):
            service(self, phone, argument)
        with contextlib.suppress(OSError):
            self._transport.send(b"CLSE", *self._ends)

    def take(self, command: bytes, payload: bytes) -> None:
        with self._came:
            self._buffer += payload
            self._closed |= command == b"CLSE"
            self._may_write |= command == b"OKAY"
            self._came.notify_all()
        if command == b"WRTE":
            self._transport.send(b"OKAY", *self._ends)

    def read(self, size: int) -> bytes:
        with self._came:
            self._came.wait_for(lambda: len(self._buffer) >= size or self._closed)
            if len(self._buffer) < size:
                raise Closed
            found, self._buffer = self._buffer[:size], self._buffer[size:]
            return found

    def write(self, data: bytes) -> None:
        for begin in range(0, len(data), MOST_BYTES):
            with self._came:
                self._came.wait_for(lambda: self._may_write or self._closed)
                if self._closed:
                    raise Closed
                self._may_write = False
            self._transport.send(b"WRTE", *self._ends, data[begin : begin + MOST_BYTES])

    def packet(self, kind: int, data: bytes) -> None:
        """Of the shell protocol."""
        self.write(struct.pack("<BI", kind, len(data)) + data)


def run_shell(stream: Stream, phone: Phone, command: str) -> None:
    """As a phone does it: the command goes to a shell as one text; when the other end closes, the shell gets SIGHUP and
    the end of its input, and nothing else."""
    phone.commands.append(command)
    shell = subprocess.Popen(
        ["/bin/sh", "-c", command],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd="/", env=phone.environment(), start_new_session=True,
    )  # fmt: skip
    phone.shells.append(shell)
    assert shell.stdin is not None
    threads = [
        threading.Thread(target=pump, args=(pipe, stream, kind), daemon=True)
        for pipe, kind in ((shell.stdout, STDOUT), (shell.stderr, STDERR))
    ]
    threads.append(threading.Thread(target=feed, args=(stream, shell), daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads[:2]:
        thread.join()
    status = shell.wait()
    stream.packet(EXIT, bytes([status if status >= 0 else 128 - status]))


def pump(pipe: object, stream: Stream, kind: int) -> None:
    with pipe as source:  # type: ignore[attr-defined]
        while data := os.read(source.fileno(), 1 << 16):
            with contextlib.suppress(Closed, OSError):
                stream.packet(kind, data)


def feed(stream: Stream, shell: "subprocess.Popen[bytes]") -> None:
    assert shell.stdin is not None
    try:
        while True:
            kind, size = struct.unpack("<BI", stream.read(5))
            data = stream.read(size)
            if kind == CLOSE_STDIN:
                break
            if kind == STDIN:
                with contextlib.suppress(BrokenPipeError):
                    shell.stdin.write(data)
                    shell.stdin.flush()
    except Closed:
        if shell.poll() is None:
            shell.send_signal(signal.SIGHUP)
    finally:
        with contextlib.suppress(BrokenPipeError):
            shell.stdin.close()


def sync(stream: Stream, phone: Phone, _: str) -> None:
    """STAT, SEND, RECV and QUIT of the first version of the protocol."""
    while True:
        kind, size = struct.unpack("<4sI", stream.read(8))
        if kind == b"QUIT":
            return
        name = stream.read(size).decode()
        if kind == b"STAT":
            found = Path(name).stat() if Path(name).exists() else None
            numbers = (found.st_mode, found.st_size, int(found.st_mtime)) if found else (0, 0, 0)
            stream.write(struct.pack("<4s3I", b"STAT", *numbers))
        elif kind == b"SEND":
            receive(stream, phone, name)
        elif kind == b"RECV":
            data = Path(name).read_bytes()
            for begin in range(0, len(data), 1 << 16):
                block = data[begin : begin + (1 << 16)]
                stream.write(struct.pack("<4sI", b"DATA", len(block)) + block)
            stream.write(struct.pack("<4sI", b"DONE", 0))


def receive(stream: Stream, phone: Phone, name: str) -> None:
    path, _, mode = name.rpartition(",")
    failure = ""
    file = None
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = Path(path).open("wb")  # noqa: SIM115 -- closed below, whatever the protocol brings
    except OSError as error:
        failure = error.strerror or ""
    try:
        while True:
            kind, size = struct.unpack("<4sI", stream.read(8))
            if kind == b"DONE":
                break
            block = stream.read(size)
            if phone.damages:
                block = bytes([block[0] ^ 1]) + block[1:]
            if file is not None and not failure:
                try:
                    file.write(block)
                    file.flush()
                except OSError as error:
                    failure = error.strerror or ""
    finally:
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()
    if failure:
        said = f"couldn't write {path}: {failure}".encode()
        stream.write(struct.pack("<4sI", b"FAIL", len(said)) + said)
    else:
        Path(path).chmod(int(mode) & 0o777)
        stream.write(struct.pack("<4sI", b"OKAY", 0))


def exactly(link: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        block = link.recv(size - len(found))
        if not block:
            raise OSError("closed")
        found += block
    return found
