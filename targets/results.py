"""What a device that is not connected writes down: its times, as `cutback db merge` takes them (device side)."""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence

from targets import timing
from targets.errors import BadInput
from targets.profiles.lines import PARTS, WHOLE_ENGINE, canonical, digest_of, engine_op, last_line, lines


class Ran(NamedTuple):
    """An engine that was timed. `sha256`: of the ONNX file that it was built from."""

    sha256: str
    precision: str
    sessions: Sequence[Mapping[str, Any]]


def encoded(device: Mapping[str, Any], regime: str, ran: Sequence[Ran]) -> str:
    """One row a session, all under names of their own. `device`: what the worker tells of itself. `BadInput` for an
    emulated one: the database would refuse it."""
    if device["emulated"]:
        raise BadInput("This machine is emulated: its times say nothing about a real one, and are not written down.")
    documents: dict[str, str] = {}
    keys: dict[str, tuple[str, ...]] = {}
    sessions: dict[str, tuple[str, str]] = {}
    samples: dict[tuple[str, str, int], str] = {}

    def stored(document: Mapping[str, Any]) -> str:
        digest = digest_of(document)
        documents[digest] = canonical(document)
        return digest

    taken_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    for engine in ran:
        for session in engine.sessions:
            key = {
                "device": device["device_class"],
                "stack": device["stack"],
                "regime": {**device["regime"], "regime": regime},
                "op": engine_op(engine.sha256, engine.precision),
                "method": {"timing": timing.VERSION, "protocol": session["protocol"], "place": WHOLE_ENGINE},
            }
            digest = digest_of(key)
            keys[digest] = tuple(stored(key[part]) for part in PARTS)
            name = uuid.uuid4().hex
            seen = {part: session[part] for part in ("warm_ups", "probes_ns", "doubts", "voided")}
            if session["conditions"]:
                seen["conditions"] = session["conditions"]
            sessions[name] = (taken_at, stored({**device["observed"], **seen, "emulated": False}))
            samples[name, digest, 0] = json.dumps(list(session["samples_ns"]), separators=(",", ":"))
    text = "".join(line + "\n" for line in lines(documents, keys, sessions, samples))
    counts = {"sessions": len(sessions), "keys": len(keys), "rows": len(samples)}
    return text + last_line(counts, hashlib.sha256(text.encode()).hexdigest()) + "\n"


def write(path: Path, text: str) -> None:
    """Whole or not at all. `BadInput` where the folder takes no file."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(path)
        finally:
            if beside.exists():
                beside.unlink()
    except OSError as failure:
        raise BadInput(f"{path} cannot be written: {failure.strerror}. Name another --output.") from failure
