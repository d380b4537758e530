"""The program that runs on a device: it starts a fresh worker for every request and outlives the worker's crashes.

It reads requests (see `protocol`) from standard input, answers on standard output, runs nothing but the verbs below,
and ends, with its worker and its folder, when standard input closes or its host falls silent. While a request is worked
on, the device is leased: one measurement at a time. Device side: see the package's docstring.

    python -m targets.agent FOLDER              the agent; FOLDER is private to it and removed at its end
    python ARCHIVE --root ROOT                  the same on a device that shares no files with its host (see `cache`)
    python -m targets.agent --worker ARGUMENTS  what it starts (see `worker`)
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from targets.errors import BadInput, TargetError
from targets.host import HEARTBEAT_S, Host, HostGone
from targets.lease import Lease, holder_name
from targets.load import choose_cores, read_cores
from targets.protocol import VERSION, claim_stdout, error_of
from targets.workers import Worker, run_worker

if TYPE_CHECKING:
    from targets.store import Store

VERBS = ("device", "describe", "build", "run", "time", "profile", "cool")
ABOUT = "about"  # answered at once, with no runtime and whoever has the device
FILE_VERBS = ("session", "have", "store", "fetch", "clean")  # of an agent that shares no files with its host
REUSABLE = ("run", "describe")  # not measured: the loaded model stays for the next batch

HOST_PATIENCE_S = 60.0  # twelve signs of life were missed; a line that is only slow brings some of them


class Service:
    """Answers a host's requests one after the other. `store` keeps its files; None: they lie where it says."""

    def __init__(self, host: Host, folder: str, lease: Lease, store: Store | None) -> None:
        self._host = host
        self._folder = folder
        self._lease = lease
        self._store = store
        self._worker: Worker | None = None
        self._cores_before = read_cores()

    def serve(self) -> None:
        try:
            while True:
                request = self._host.next_request()
                verb = request.get("verb")
                try:
                    if verb == ABOUT:
                        answer = {"result": self._about()}
                    elif self._store is not None and verb in FILE_VERBS:
                        answer = {"result": self._store.answer(request, self._host)}
                    else:
                        answer = self._work(request)
                except (BadInput, TargetError, OSError, ValueError, KeyError, TypeError) as failure:
                    answer = {"error": error_of(failure)}
                finally:
                    self._lease.release()
                if self._worker is not None and ("error" in answer or verb not in (*REUSABLE, *FILE_VERBS, ABOUT)):
                    self._end_worker()
                self._cores_before = read_cores()
                self._host.send({"id": request["id"], **answer})
        finally:
            self._lease.release()
            self._end_worker()

    def _work(self, request: dict[str, Any]) -> dict[str, Any]:
        """The worker's answer, given while this host alone has the device."""
        setting = setting_of(request)
        if request.get("verb") not in VERBS:
            known = (ABOUT, *VERBS, *FILE_VERBS) if self._store else (ABOUT, *VERBS)
            raise BadInput(f"The agent knows no verb {request.get('verb')!r}. It has: {', '.join(known)}.")
        if self._worker is not None and (request["verb"] not in REUSABLE or self._worker.setting != setting):
            self._end_worker()
        if request["verb"] != "device":
            self._wait_for_lease(request)
        if self._worker is None:
            cores = choose_cores(setting["threads"], self._cores_before, setting["cores"])
            self._worker = Worker(self._folder, setting, cores)
        answer = self._worker.ask(request, self._host, self._lease.show)
        self._lease.confirm()
        return {part: content for part, content in answer.items() if part != "id"}

    def _about(self) -> dict[str, Any]:
        """What runs here and where, how much room there is, and who has the device. `sha256`: of the archive that this
        is, "" where it is a module. `keeps`: whether files stay here for the next host."""
        root = self._folder if self._store is None else str(self._store.cache.root)
        return {
            "protocol": VERSION,
            "sha256": Path(sys.argv[0]).stem if sys.argv[0].endswith(".pyz") else "",
            "python": platform.python_version(),
            "executable": sys.executable,
            "folder": root,
            "free_bytes": shutil.disk_usage(root).free,
            "keeps": self._store is not None,
            "busy_for": self._lease.other_holder(),
        }

    def _wait_for_lease(self, request: dict[str, Any]) -> None:
        told = 0.0

        def waiting(holder: str) -> None:
            nonlocal told
            self._host.check()
            if time.monotonic() - told > HEARTBEAT_S:
                told = time.monotonic()
                self._host.send({"id": request["id"], "event": {"waiting_for": holder}})

        self._lease.take(waiting)

    def _end_worker(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None


def setting_of(request: dict[str, Any]) -> dict[str, Any]:
    """What the worker opens its runtime with, named as `open_runtime` names it; and the kind of cores that it gets."""
    return {
        "name": str(request.get("runtime", "")),
        "threads": int(request.get("threads", 1)),
        "options": dict(request.get("options", {})),
        "cores": str(request.get("cores", "")),
    }


def main() -> None:
    if sys.argv[1] == "--worker":
        run_worker(sys.argv[2:])
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    answers = claim_stdout()
    host, store = Host(0, answers), None
    if sys.argv[1] == "--root":
        from targets.store import Store  # what only a device that is reached from elsewhere needs

        try:
            store = Store(sys.argv[2], own=sys.argv[0])
        except OSError as failure:
            sys.exit(f"Cannot keep files in {sys.argv[2]}: {failure.strerror}.")
        host = Host(0, answers, HOST_PATIENCE_S)
        folder = store.folder
    else:
        folder = sys.argv[1]
    try:
        Service(host, folder, Lease(holder_name()), store).serve()
    except (HostGone, BrokenPipeError):
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)  # what was not taken is not written now either: that would wait as long again
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
