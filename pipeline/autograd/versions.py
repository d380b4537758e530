"""Which versions of an operator there are: an operator's meaning changes only at its own "since" versions."""

import functools
from collections import defaultdict
from collections.abc import Mapping

import onnx

OLDEST_OPSET = 7
NEWEST_OPSET = 28  # the newest whose node tests the rules were held against


@functools.cache
def _history() -> Mapping[str, tuple[int, ...]]:
    """Operator of ONNX's own domain -> versions of its schema, oldest first, as the installed onnx package has them."""
    found: dict[str, set[int]] = defaultdict(set)
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "" and not schema.deprecated:
            found[schema.name].add(schema.since_version)
    return {name: tuple(sorted(versions)) for name, versions in found.items()}


def version_at(op: str, opset: int) -> int:
    """The version of the operator in force at `opset`; 0 where it does not exist yet."""
    return max((version for version in _history().get(op, ()) if version <= opset), default=0)


def versions_from(op: str, since: int = OLDEST_OPSET) -> tuple[int, ...]:
    """The versions that graphs of opset `since` to NEWEST_OPSET can mean, oldest first."""
    first = version_at(op, since)
    return tuple(version for version in _history().get(op, ()) if max(first, 1) <= version <= NEWEST_OPSET)
