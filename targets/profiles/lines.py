"""What an exported profile database is written in: canonical JSON, digests of it, and lines (device side).

A device that is not connected writes the very same lines, so that its times merge like any other database's.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Iterator, Mapping, Sequence, Tuple

FORMAT = "cutback profiles"
VERSION = 1

PARTS = ("device", "stack", "regime", "op", "method")  # of a key, each a document

WHOLE_ENGINE = "whole engine"  # how a row was timed: an engine as it runs for its user, in fresh processes

Samples = Mapping[Tuple[str, str, int], str]  # (session, key's digest, index) -> a JSON list of nanoseconds


def canonical(document: Mapping[str, Any]) -> str:
    """JSON that is the same for equal content: sorted keys, no spaces, tuples as lists, no NaN."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest_of(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(document).encode()).hexdigest()


def digest_of_texts(device: str, stack: str, regime: str, op: str, method: str) -> str:
    """A key's digest from its parts' canonical JSON, unparsed."""
    texts = {"device": device, "stack": stack, "regime": regime, "op": op, "method": method}
    whole = ",".join(f'"{part}":{text}' for part, text in sorted(texts.items()))
    return hashlib.sha256(f"{{{whole}}}".encode()).hexdigest()


def engine_op(sha256: str, precision: str) -> dict[str, Any]:
    """What a whole engine's row is of: the ONNX file that it was built from, and the precision that stands in it."""
    return {"model": sha256, "precision": precision}


def lines(
    documents: Mapping[str, str],
    keys: Mapping[str, Sequence[str]],
    sessions: Mapping[str, Tuple[str, str]],
    samples: Samples,
) -> Iterator[str]:
    """All lines but the last, in the one order that equal content has. See `content.Content` for the arguments."""
    yield canonical({"format": FORMAT, "version": VERSION})
    for digest, text in sorted(documents.items()):
        yield f'{{"digest":"{digest}","document":{text}}}'
    for digest, parts in sorted(keys.items()):
        yield canonical({"key": digest, "parts": list(parts)})
    rows: dict[str, list[str]] = {session: [] for session in sessions}
    for (session, digest, index), text in sorted(samples.items()):
        rows[session].append(f'["{digest}",{index},{text}]')
    for session, (taken_at, observed) in sorted(sessions.items()):
        head = json.dumps({"session": session, "taken_at": taken_at, "observed": observed}, separators=(",", ":"))
        yield f'{head[:-1]},"rows":[{",".join(rows[session])}]}}'


def last_line(counts: Mapping[str, int], checksum: str) -> str:
    """`counts`: of sessions, keys and rows. `checksum`: sha256 of all lines before, with their line ends."""
    return canonical({"end": dict(counts), "sha256": checksum})
