"""Requests to a fleet as tasks of a Dask scheduler: submitted, followed, and their answers looked at (host side)."""

import asyncio
import contextlib
import json
import tempfile
import time
import uuid
from collections.abc import Awaitable, Collection, Mapping
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, TextIO

from distributed import Client, KilledWorker

from targets.archive import write_agent
from targets.bootstrap import BOOTSTRAP
from targets.cache import SUFFIX
from targets.channel import digest
from targets.errors import BadInput, TargetError
from targets.protocol import one_line, send

TASK = (Path(__file__).parent / "dask_task.py").read_text(encoding="utf-8")
CALL = "(lambda space: exec(program, space) or space['perform'](order, files))({})"  # source: any Python reads it

RETRIES = 2  # of a task whose agent died under it; how many devices may die under one is the scheduler's to say
POLL_S = 2.0
SHOWN_EVERY_S = 5.0
BUSY_S = 10.0  # from which on a person is told that all devices are busy
NO_DEVICE_S = 600.0  # all devices of a tag may be starting anew

SETTING = ("runtime", "threads", "options", "cores")
KIND = ("device_class", "stack", "regime")  # what all devices of a tag have to have in common
ALONE = ("about", "clean")  # with no runtime; the first of whichever device is free, the second of all
SENT = {"cool": (), "describe": ("model",), "build": ("model",), "run": ("model", "feeds"), "time": ("model",),
        "profile": ("model", "gauge")}  # fmt: skip
MADE = {"build": "output", "run": "output", "profile": "graph"}

NONSENSE = "A device answered with what makes no sense. Is it what you think it is?"


class Lost(Exception):
    """There is no scheduler, or no device, just now."""


class Silent(Exception):
    """A worker that has a task shows no sign of life; the argument is its address."""


class Requests:
    """One at a time. `setting`: as the relay is given it."""

    def __init__(self, setting: Mapping[str, Any], client: Client, answers: TextIO) -> None:
        self._setting = setting
        self._client = client
        self._answers = answers
        self._topic = f"cutback-{uuid.uuid4().hex}"
        self._kind: dict[str, Any] | None = None  # of the first device that answered, and its name
        self._number = 0
        self._key = self._name = self._address = ""  # of the present task, of the device that runs it
        self._begun, self._begins, self._heard = False, 0, 0.0
        self._seen = ("", 0.0, 0.0)  # address, the scheduler's last sign of life from there, when we learned of it
        self._alone_since: float | None = None  # no device has the tag
        self._last = ""  # the address of the device that answered last: what is to cool is that one
        self._repeated = 0  # tasks that began again, of all requests
        client.subscribe_topic(self._topic, self._hear)
        with tempfile.TemporaryDirectory(prefix="cutback-agent-") as folder:
            archive = Path(folder, "agent.pyz")
            write_agent(archive)
            self._archive = archive.read_bytes()
            size = {"sha256": digest(archive), "size": len(self._archive)}
        self._asked = {**size, "holder": setting["holder"], "root": setting["folder"], "python": setting["python"]}

    async def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What goes back beside the request's number."""
        self._number = request["id"]
        if request["verb"] == "devices":
            return {"result": sorted((await self._devices()).values())}
        if request["verb"] not in (*ALONE, "device", *SENT):
            known = ", ".join((*ALONE, "device", *SENT))
            raise BadInput(f"A fleet knows no verb {request['verb']!r}. It has: {known}.")
        order, files, names = self._order(request)
        try:
            if request["verb"] == "clean":
                return await self._cleaned(order, files)
            only = [self._last] if request["verb"] == "cool" and self._last in await self._devices() else None
            head, made = unpacked(await self._performed(request["verb"], order, files, only))
            self._last = self._address
            return self._checked(head, made, request, names)
        except (ValueError, TypeError, LookupError, AttributeError) as failure:
            raise TargetError(f"{NONSENSE} ({one_line(str(failure))[:80]})") from failure

    async def _cleaned(self, order: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
        """What went from all devices together."""
        all_of = []
        for address in await self._devices():
            head, _ = unpacked(await self._performed("clean", order, files, [address]))
            if "error" in head:
                return {"error": head["error"]}
            all_of.append(head["result"])
        went = {part: sum(int(each[part]) for each in all_of) for part in ("removed", "left")}
        return {"result": {"root": all_of[0]["root"] if all_of else "", **went}}

    def _order(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, bytes], dict[str, str]]:
        """The order, its files by hash, and how a person calls what the device calls by its hash."""
        sent, files, names = {}, {"agent": self._archive}, {}
        for name in SENT.get(request["verb"], ()):
            if (path := request["arguments"].get(name)) is not None:
                sent[name] = {"sha256": digest(Path(path)), "suffix": suffix_of(Path(path))}
                files[sent[name]["sha256"]] = Path(path).read_bytes()
                names["".join(sent[name].values())] = Path(path).name
        order = {
            "bootstrap": BOOTSTRAP, "asked": self._asked, "verb": request["verb"], "silence_s": request["silence_s"],
            "setting": {part: request[part] for part in SETTING if part in request},
            "arguments": request["arguments"], "sent": sent, "made": MADE.get(request["verb"], ""),
            "expected": {part: self._kind[part] for part in KIND} if self._kind else None, "topic": self._topic,
        }  # fmt: skip
        return order, files, names

    async def _performed(
        self, verb: str, order: Mapping[str, Any], files: Mapping[str, bytes], only: Collection[str] | None = None
    ) -> bytes:
        """What `dask_task.perform` gives. A device that falls silent over it is not asked again. `only`: addresses."""
        task = {"program": TASK, "order": json.dumps(order), "files": dict(files)}
        silent: dict[str, str] = {}
        while True:
            others = await self._devices() if silent and only is None else only
            free = None if others is None else [address for address in others if address not in silent]
            if free == []:
                names = ", ".join(sorted(silent.values()))
                raise TargetError(
                    f"{names} did not answer for {self._setting['patience_s']:.0f} s, and no other device with "
                    f"{self._setting['tag']} is there. Look at it, or start its worker anew."
                )
            future = self._client.submit(
                eval, CALL, task, key=f"cutback-{verb}-{uuid.uuid4().hex}", pure=False, retries=RETRIES,
                resources={self._setting["tag"]: 1}, workers=free,
            )  # fmt: skip
            try:
                return await self._followed(future)
            except Silent as failure:
                (address,) = failure.args
                silent[address] = self._name
                self._say({"note": f"{self._name} does not answer; asking another device."})
            finally:
                with contextlib.suppress(OSError):
                    await future.cancel()

    async def _followed(self, future: Any) -> bytes:
        """The future's result, with signs of life meanwhile."""
        self._key, self._begun, self._address, self._name, self._begins = future.key, False, "", "", 0
        self._heard = shown = polled = begin = time.monotonic()
        self._seen, self._alone_since, busy_told = ("", 0.0, begin), None, False
        self._place()
        waiting = asyncio.ensure_future(future.result())
        try:
            while not waiting.done():
                await asyncio.wait({waiting}, timeout=POLL_S / 4)
                now = time.monotonic()
                if self._client.status != "running":
                    raise Lost(f"the scheduler at {self._setting['address']} is gone")
                if now - shown > SHOWN_EVERY_S:
                    shown = now
                    self._say({"alive": True})
                if waiting.done() or now - polled < POLL_S:
                    continue
                polled = now
                await self._look_up(now)
                if not (self._begun or busy_told or self._alone_since) and now - begin > BUSY_S:
                    busy_told = True
                    self._say({"note": f"all devices with {self._setting['tag']} are busy; waiting."})
            return self._result(waiting)
        finally:
            waiting.cancel()

    def _result(self, waiting: "asyncio.Future[Any]") -> bytes:
        failure = None if waiting.cancelled() else waiting.exception()
        if waiting.cancelled() or isinstance(failure, CancelledError):
            raise Lost(f"the scheduler at {self._setting['address']} was started anew")
        if isinstance(failure, KilledWorker):
            raise TargetError(
                f"Each device that was given this died over it, the last one was {failure.last_worker.name}. Look at "
                "what its kernel says of memory (dmesg), or try a smaller network."
            ) from failure
        if failure is not None:
            raise TargetError(f"{self._name}, the last one that was asked: {one_line(str(failure))}") from failure
        return bytes(waiting.result())

    async def _look_up(self, now: float) -> None:
        """Where the task is, by the scheduler. `Silent` where a worker has it and does not show itself."""
        workers = (await self._identity())["workers"]
        place = [
            address for address, keys in (await self._told(self._client.processing())).items() if self._key in keys
        ]
        if place != [self._address] and self._begun:
            self._begun = False  # it died, or is done, and the next one has not begun
            self._place()
        if not place:
            self._seen = ("", 0.0, now)
            if with_tag(self._setting["tag"], workers):
                self._alone_since = None
            elif self._alone_since is None:
                self._alone_since = now
                self._say({"note": f"no device with {self._setting['tag']} is connected; waiting for one."})
            elif now - self._alone_since > NO_DEVICE_S:
                raise Lost(none_with(self._setting["tag"], workers))
            return
        (address,), self._alone_since = place, None
        last = float(workers[address]["last_seen"]) if address in workers else 0.0
        if self._seen[:2] != (address, last):
            self._seen = (address, last, now)
        patience_s = self._setting["patience_s"]
        if now - self._seen[2] > patience_s or (self._begun and now - self._heard > patience_s):
            self._name = str(workers[address]["name"]) if address in workers else self._name
            raise Silent(address)

    async def check_device(self) -> None:
        """`Lost` where no device has the tag."""
        if not await self._devices():
            raise Lost(none_with(self._setting["tag"], (await self._identity())["workers"]))

    async def _devices(self) -> dict[str, str]:
        """Names by address of all workers with the tag."""
        return with_tag(self._setting["tag"], (await self._identity())["workers"])

    async def _identity(self) -> dict[str, Any]:
        found: dict[str, Any] = await self._told(self._client.scheduler.identity(n_workers=-1))
        return found

    async def _told(self, question: Awaitable[Any]) -> Any:
        try:
            return await question
        except OSError as failure:
            raise Lost(f"the scheduler at {self._setting['address']} is gone") from failure

    def _hear(self, event: tuple[float, Any]) -> None:
        """An event of a task."""
        _, message = event
        if not isinstance(message, dict) or message.get("key") != self._key:
            return
        self._heard = time.monotonic()
        if "begun" in message:
            self._begun, self._address, self._name = True, message["worker"], str(message["name"])
            self._begins += 1
            if self._begins > 1:
                self._repeated += 1
                self._say({"note": f"the device that was at it is lost; {self._name} does it now."})
            self._place()
        if "waiting_for" in message:
            self._say({"waiting_for": str(message["waiting_for"])})

    def _place(self) -> None:
        self._say({"place": self._name if self._begun else "", "repeated": self._repeated})

    def _say(self, event: Mapping[str, Any]) -> None:
        send(self._answers, {"id": self._number, "event": dict(event)})

    def _checked(
        self, head: dict[str, Any], made: bytes | None, request: Mapping[str, Any], names: Mapping[str, str]
    ) -> dict[str, Any]:
        worker = head["worker"]
        if "other" in head:
            from targets.fleet import check_kind

            check_kind({**head["other"], "observed": {"worker": worker}}, self._kind or {}, self._setting["tag"])
            raise TypeError("another kind, and the same")
        if "error" in head:
            error = head["error"]
            for called, name in names.items():
                error["message"] = error["message"].replace(called, name)
            return {"error": {**error, "message": f"{worker}: {error['message']}"}}
        if request["verb"] == "device" and self._kind is None:
            self._kind = {**{part: head["result"][part] for part in KIND}, "observed": {"worker": worker}}
        if request["verb"] in ALONE:
            return {"result": head["result"]}
        observed = {**head["observed"], "worker": worker, "tag": self._setting["tag"]}
        self._say({"observed": {**observed, "began_s": head["began_s"], "ended_s": head["ended_s"]}})
        if made is not None:
            Path(request["arguments"][MADE[request["verb"]]]).write_bytes(made)
        return {"result": head["result"]}


def unpacked(answer: bytes) -> tuple[dict[str, Any], bytes | None]:
    """The head of a task's answer, and the file if there is one. `TargetError` where it is no answer."""
    line, _, made = answer.partition(b"\n")
    try:
        head = json.loads(line)
        if not isinstance(head["worker"], str) or not ({"result", "error", "other"} & set(head)):
            raise TypeError("neither a result nor an error")
    except (ValueError, TypeError, LookupError, RecursionError) as failure:
        raise TargetError(NONSENSE) from failure
    return head, made if head.get("made") is True else None


def with_tag(tag: str, workers: Mapping[str, Any]) -> dict[str, str]:
    """Names by address."""
    return {address: str(each["name"]) for address, each in workers.items() if each["resources"].get(tag, 0) >= 1}


def none_with(tag: str, workers: Mapping[str, Any]) -> str:
    tags = sorted({each for worker in workers.values() for each in worker["resources"]})
    there = f"There are: {', '.join(tags)}" if tags else "There are none with any"
    return f'no worker with the tag {tag} has joined the scheduler. {there}. Start one with --resources "{tag}=1"'


def suffix_of(path: Path) -> str:
    """As much of the end of its name as the device's cache takes."""
    found = ""
    for suffix in reversed(path.suffixes):
        if not SUFFIX.fullmatch(suffix + found):
            break
        found = suffix + found
    return found
