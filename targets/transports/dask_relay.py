"""Between a host's pipes and a Dask scheduler: every request becomes one task for a device with the right tag (host
side).

    python -m targets.transports.dask_relay

Its first line of input is the setting: `{"address", "tag", "config", "holder", "folder", "python", "patience_s"}`; the
others are requests as an agent takes them. Which device runs a task, what waits for its turn and what is run again
after a device died is Dask's business. When the scheduler is lost it ends with `LOST`, when there is no way to use it
with `REFUSED`, and one line on standard error.
"""

import asyncio
import contextlib
import json
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import dask
from distributed import Client, Security

from targets.errors import BadInput, CutbackError, TargetError
from targets.protocol import claim_stdout, error_of, one_line, send
from targets.transports.dask_address import check_encrypted
from targets.transports.dask_requests import Lost, Requests

REFUSED, LOST = 2, 3  # how it ends
CONNECT_S = 5.0


def configure(path: str) -> None:
    """Put the file's settings over Dask's own configuration."""
    if path and not Path(path).is_file():
        raise BadInput(f"There is no file {path}, which the target names as its configuration.")
    try:
        own = dask.config.collect([path], env={}) if path else {}
    except (OSError, ValueError) as failure:
        raise BadInput(f"Cannot read {path}: {one_line(str(failure))}") from failure
    dask.config.update(dask.config.config, own)


async def open_client(address: str) -> Client:
    """`Lost` where no scheduler answers, `TargetError` where it or we are refused."""
    check_encrypted(address, dask.config.get("distributed.comm.require-encryption"))
    try:
        security = Security()
        if address.startswith("tls:") and not (security.tls_ca_file and security.tls_client_cert):
            raise BadInput(
                f"{address} wants certificates, and Dask's settings name none. Set distributed.comm.tls.ca-file and "
                "distributed.comm.tls.client.cert and .key in a file, and give it as the target's config."
            )
        return await Client(address, security=security, asynchronous=True, timeout=CONNECT_S, set_as_default=False)
    except OSError as failure:
        said = one_line(" ".join(str(each) for each in causes(failure)))
        if "SSL" in said or "certificate" in said.lower() or isinstance(failure, FileNotFoundError):
            raise TargetError(f"{address}: no trusted connection ({said}). Look at the certificates.") from failure
        raise Lost(f"no scheduler answers at {address}. Start it: dask scheduler --protocol tls") from failure


def causes(failure: BaseException | None) -> Iterator[BaseException]:
    while failure is not None:
        yield failure
        failure = failure.__cause__ or failure.__context__


async def serve(setting: Mapping[str, Any], answers: TextIO) -> None:
    lines: asyncio.Queue[bytes] = asyncio.Queue()
    loop, whole = asyncio.get_running_loop(), asyncio.current_task()
    assert whole is not None

    def read() -> None:
        for line in sys.stdin.buffer:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(whole.cancel)  # nobody waits for anything any more

    client = await open_client(setting["address"])
    try:
        requests = Requests(setting, client, answers)
        await requests.check_device()
        send(answers, {"ready": True})
        threading.Thread(target=read, daemon=True).start()
        while True:
            if not (line := (await lines.get()).strip()):
                continue
            request = json.loads(line)
            try:
                answer = await requests.answer(request)
            except (CutbackError, OSError) as failure:
                answer = {"error": error_of(failure)}
            send(answers, {"id": request["id"], **answer})
    finally:
        with contextlib.suppress(asyncio.TimeoutError, OSError):
            await client.close(timeout=1)


def main() -> None:
    setting = json.loads(sys.stdin.buffer.readline())
    answers = claim_stdout()
    warnings.filterwarnings("ignore", message="Sending large graph")  # a task carries its network, which it needs
    status, said = 0, ""
    try:
        configure(setting["config"])
        asyncio.run(serve(setting, answers))
    except (asyncio.CancelledError, BrokenPipeError):
        pass
    except Lost as failure:
        status, said = LOST, str(failure)
    except CutbackError as failure:
        status, said = REFUSED, str(failure)
    sys.stderr.write(f"{said}\n")
    sys.stderr.flush()
    os._exit(status)  # Dask's threads may wait for a scheduler that is gone


if __name__ == "__main__":
    main()
