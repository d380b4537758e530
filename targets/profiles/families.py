"""Families: kernels that are one but for a width, so that their times over it are a staircase."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from targets.profiles.database import Database
from targets.profiles.key import KernelKey, digest_of
from targets.profiles.rows import Row
from targets.profiles.search import Wanted, find_keys

Path = tuple[str | int, ...]  # where in a document: names and, in lists, positions

FEWEST_WIDTHS = 3  # two points are a line
WIDTH = "width"  # numbers below a name that begins so are preferred: the others are what a kernel is of


@dataclass(frozen=True)
class Family:
    """Kernels of one device, stack, regime and method whose op documents differ in one number, or in several that are
    always equal. `varies`: where in the op.
    `op`: with a star in its place. `keys`: by the number, ascending, the key's digest."""

    id: str
    example: KernelKey
    op: Mapping[str, Any]
    varies: str
    keys: Mapping[int, str]


@dataclass(frozen=True)
class Step:
    """One width of a family: the median over its rows."""

    width: int
    time_ns: float
    rows: int


def mean_of(row: Row) -> float:
    return row.mean_ns


def find_families(database: Database, wanted: Wanted) -> list[Family]:
    """The widest first."""
    keys = database.read(lambda connection: find_keys(connection, wanted))
    return sorted(families(keys), key=lambda family: (-len(family.keys), family.id))


def steps(family: Family, rows: Mapping[str, Sequence[Row]], time_of: Callable[[Row], float] = mean_of) -> list[Step]:
    """Ascending, from the rows of the family's keys; widths without rows are left out. `time_of`: in nanoseconds."""
    return [
        Step(width, float(np.median([time_of(row) for row in rows[digest]])), len(rows[digest]))
        for width, digest in family.keys.items()
        if digest in rows
    ]


def families(keys: Mapping[str, KernelKey]) -> Iterator[Family]:
    """Every family among the keys. One key may be in several: one for each of its widths."""
    numbers = {digest: dict(integers(key.op)) for digest, key in keys.items()}
    for alike in grouped({digest: outline(key) for digest, key in keys.items()}):
        columns = {path: [numbers[digest][path] for digest in alike] for path in numbers[alike[0]]}
        varying = [path for path, column in columns.items() if len(set(column)) > 1]
        named = [path for path in varying if any(str(step).startswith(WIDTH) for step in path)]
        candidates = named or varying
        for path in candidates:
            yield from along((path,), alike, [other for other in varying if other != path], keys, numbers)
        if len(candidates) > 1:
            level = [digest for digest in alike if len({numbers[digest][path] for path in candidates}) == 1]
            yield from along(tuple(candidates), level, [o for o in varying if o not in candidates], keys, numbers)


def along(
    paths: tuple[Path, ...],
    alike: Iterable[str],
    others: Sequence[Path],
    keys: Mapping[str, KernelKey],
    numbers: Mapping[str, Mapping[Path, int]],
) -> Iterator[Family]:
    """The families over `paths`: what is equal in all the others, and wide enough."""
    for group in grouped({digest: tuple(numbers[digest][other] for other in others) for digest in alike}):
        if len(group) < FEWEST_WIDTHS:
            continue
        by_width = {numbers[digest][paths[0]]: digest for digest in group}
        first = keys[group[0]]
        op = without(first.op, paths)
        varies = " = ".join(".".join(map(str, path)) for path in paths)
        parts = {"device": first.device, "stack": first.stack, "regime": first.regime, "method": first.method}
        identity = digest_of({**parts, "op": op, "varies": varies})[:8]
        yield Family(identity, first, op, varies, dict(sorted(by_width.items())))


def grouped(values: Mapping[str, Hashable]) -> list[list[str]]:
    """Names of equal values together."""
    groups: dict[Hashable, list[str]] = {}
    for name, value in values.items():
        groups.setdefault(value, []).append(name)
    return list(groups.values())


def outline(key: KernelKey) -> Hashable:
    """Everything of a key but the whole numbers in its op."""
    return digest_of(
        {
            "device": key.device, "stack": key.stack, "regime": key.regime, "method": key.method,
            "op": without(key.op, [path for path, _ in integers(key.op)]),
        }
    )  # fmt: skip


def integers(document: Any, path: Path = ()) -> Iterator[tuple[Path, int]]:
    """Every whole number in a document and where it is."""
    if isinstance(document, Mapping):
        for name, value in document.items():
            yield from integers(value, (*path, name))
    elif isinstance(document, (list, tuple)):
        for position, value in enumerate(document):
            yield from integers(value, (*path, position))
    elif isinstance(document, int) and not isinstance(document, bool):
        yield path, document


def without(document: Any, paths: Iterable[Path]) -> Any:
    """The document with a star for what is at `paths`."""
    starred = frozenset(paths)

    def copy(value: Any, path: Path) -> Any:
        if path in starred:
            return "*"
        if isinstance(value, Mapping):
            return {name: copy(inside, (*path, name)) for name, inside in value.items()}
        if isinstance(value, (list, tuple)):
            return [copy(inside, (*path, position)) for position, inside in enumerate(value)]
        return value

    return copy(document, ())
