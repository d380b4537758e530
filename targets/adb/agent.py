"""An agent that runs here and has a phone's shell do the work: for phones without Python (host side).

It speaks what `targets.agent` speaks, so that nothing above knows the difference: requests on standard input, answers
on standard output, files in a folder that it shares with its host. A runtime's own benchmark is what runs on the phone
and what tells the time.

    python -m targets.adb.agent FOLDER '{"name", "serial", "binary", "folder"}'
"""

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from targets.adb.client import Adb
from targets.adb.lease import PhoneLease
from targets.adb.phone import Phone
from targets.adb.verbs import Verbs
from targets.agent import ABOUT, VERBS, setting_of
from targets.errors import BadInput, TargetError
from targets.host import HEARTBEAT_S, Host, HostGone
from targets.lease import holder_name
from targets.protocol import VERSION, claim_stdout, error_of

CLEAN = "clean"
TIMED = ("time", "profile")  # what is worth nothing where somebody else was given the phone meanwhile


class Service:
    """Answers a host's requests one after the other."""

    def __init__(self, host: Host, folder: Path, asked: Mapping[str, str]) -> None:
        self._host = host
        self._folder = folder
        self._binary = asked["binary"]
        self._number = 0
        self._told = 0.0
        self.adb = Adb(asked["name"], asked["serial"], self._alive)
        self.phone = Phone(self.adb, asked["folder"], holder_name())
        self._lease = PhoneLease(self.adb, self.phone.token, holder_name())
        self._verbs: tuple[dict[str, Any], Verbs] | None = None

    def serve(self) -> None:
        while True:
            request = self._host.next_request()
            self._number = request["id"]
            try:
                answer = {"result": self._work(request)}
            except (BadInput, TargetError, OSError, ValueError, KeyError, TypeError) as failure:
                answer = {"error": error_of(failure)}
            except HostGone:
                self.adb.let_go()
                raise
            finally:
                self._lease.release()
            self._host.send({"id": self._number, **answer})

    def close(self) -> None:
        self._lease.release()
        self.phone.close()

    def _work(self, request: dict[str, Any]) -> Any:
        verb = request.get("verb")
        if verb == ABOUT:
            return self._about()
        if verb == CLEAN:
            return self.phone.clean()
        if verb not in VERBS:
            raise BadInput(f"The agent knows no verb {verb!r}. It has: {', '.join((ABOUT, *VERBS, CLEAN))}.")
        if verb != "device":
            self._lease.take(self._waiting)
        setting = setting_of(request)
        if self._verbs is None or self._verbs[0] != setting:
            self._verbs = (setting, Verbs(self.phone, self._binary, setting, self._folder))
        verbs = self._verbs[1]
        verbs.limit_s = float(request.get("silence_s", 600.0))
        verbs.progress = self._progress
        result = getattr(verbs, str(verb))(**request["arguments"])
        if verb in TIMED:
            self._lease.renew()
        return result

    def _about(self) -> dict[str, Any]:
        """As `targets.agent` tells it; there is no Python on the phone, and what stands for it is the program."""
        return {
            "protocol": VERSION,
            "sha256": "",
            "python": "none",
            "executable": self._binary,
            "folder": self.phone.base,
            "free_bytes": self.phone.free_bytes(),
            "keeps": True,
            "busy_for": self._lease.other_holder(),
        }

    def _alive(self) -> None:
        """While a command takes its time on the phone: is the host there, and does it know that we are?"""
        self._host.alive(self._number)

    def _progress(self, event: dict[str, Any]) -> None:
        self._host.send({"id": self._number, "event": event})

    def _waiting(self, holder: str) -> None:
        self._host.check()
        if time.monotonic() - self._told > HEARTBEAT_S:
            self._told = time.monotonic()
            self._host.send({"id": self._number, "event": {"waiting_for": holder}})


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    answers, folder = claim_stdout(), sys.argv[1]
    with Path(folder, "printed.log").open("wb") as log:
        os.dup2(log.fileno(), 1)  # converters talk
    host = Host(0, answers)
    service = None
    try:
        try:
            service = Service(host, Path(folder), json.loads(sys.argv[2]))
        except TargetError as failure:
            request = host.next_request()
            host.send({"id": request["id"], "error": error_of(failure)})
            return
        service.serve()
    except (HostGone, BrokenPipeError):
        pass
    finally:
        if service is not None:
            end(service)
        shutil.rmtree(folder, ignore_errors=True)


def end(service: Service) -> None:
    """The phone may be gone, and the host is: nobody is told."""
    service.adb.let_go()
    with contextlib.suppress(TargetError):  # its folder over there goes when another agent finds it a day old
        service.close()


if __name__ == "__main__":
    main()
