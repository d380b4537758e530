"""Times taken under other conditions, used where our own are missing, only when asked for, and never silently."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, final

import sqlalchemy as sql

from targets.device import Device
from targets.errors import BadInput
from targets.profiles.content import chunks
from targets.profiles.key import Difference, canonical, differences, digest_of, digest_of_texts
from targets.profiles.rows import Row
from targets.profiles.schema import DOCUMENTS, KEYS
from targets.profiles.store import Profiles, ProfileStore

BORROWABLE = ("stack", "regime", "device")  # a key's parts that another's may differ in; op and method never


@dataclass(frozen=True)
class Loan:
    """What was borrowed from one set of conditions. `kernels`: keys; `rows`: their rows. `oldest`, `newest`: when they
    were taken. `differs`: what their conditions and ours differ in."""

    kernels: int
    rows: int
    oldest: str
    newest: str
    differs: tuple[Difference, ...]


@final
class Borrowing:
    """A profile store that, for a key without rows, answers with rows of a key that differs only in `parts`.

    `device`: ours, which every key asked for is of. Such rows keep their own key and say in `differs` what it differs
    in. Of several sources the one with the fewest differences is taken, then the newest; sources are never mixed for a
    key. `add` goes to the store; from then on that key needs no loan. `BadInput` for a part that cannot be borrowed
    over.
    """

    def __init__(self, store: ProfileStore, device: Device, parts: Collection[str] = ("stack",)) -> None:
        unknown = sorted(set(parts) - set(BORROWABLE))
        if unknown or not parts:
            raise BadInput(
                f"Times cannot be borrowed over {', '.join(unknown) or 'nothing'}; name {', '.join(BORROWABLE)}."
            )
        self._store = store
        self._ours: Mapping[str, Mapping[str, Any]] = {
            "device": device.device_class, "stack": device.stack, "regime": device.regime,
        }  # fmt: skip
        self._sources = sources(store, self._ours, frozenset(parts))
        self._loans: dict[str, list[Row]] = {}

    def find(self, digests: Collection[str]) -> dict[str, list[Row]]:
        """The store's own rows, and for keys that have none there, rows that stand in."""
        found = self._store.find(digests)
        missing = {
            digest: self._sources[digest] for digest in digests if digest in self._sources and digest not in found
        }
        lent = self._store.find([digest for source in missing.values() for digest in source])
        for digest, candidates in missing.items():
            rows = self._nearest([lent[source] for source in candidates if source in lent])
            if rows:
                found[digest] = self._loans[digest] = rows
        return found

    def add(self, rows: Iterable[Row]) -> None:
        """As the store's: all rows or none."""
        rows = list(rows)
        self._store.add(rows)
        for row in rows:
            self._loans.pop(row.key.digest, None)

    @property
    def loans(self) -> tuple[Loan, ...]:
        """What was borrowed so far and not measured since, the largest first."""
        by_source: dict[tuple[str, ...], list[list[Row]]] = {}
        for rows in self._loans.values():
            by_source.setdefault(tuple(map(str, rows[0].differs)), []).append(rows)
        made = [
            Loan(
                kernels=len(lent),
                rows=sum(map(len, lent)),
                oldest=min(row.taken_at for rows in lent for row in rows),
                newest=max(row.taken_at for rows in lent for row in rows),
                differs=lent[0][0].differs,
            )
            for lent in by_source.values()
        ]
        return tuple(sorted(made, key=lambda loan: (-loan.kernels, str(loan.differs))))

    def as_dict(self) -> dict[str, Any]:
        """`kernels`: how many keys stand on borrowed rows; `loans`: from which conditions, and what they differ in."""
        loans = [{**asdict(loan), "differs": [asdict(each) for each in loan.differs]} for loan in self.loans]
        return {"kernels": len(self._loans), "loans": loans}

    def _nearest(self, candidates: list[list[Row]]) -> list[Row]:
        told = [
            (
                tuple(
                    d for part in self._ours for d in differences(getattr(rows[0].key, part), self._ours[part], part)
                ),
                rows,
            )
            for rows in candidates
        ]
        told.sort(key=lambda each: each[1][-1].taken_at, reverse=True)
        if not told:
            return []
        differs, rows = min(told, key=lambda each: len(each[0]))
        return [replace(row, differs=differs) for row in rows]


def open_profiles(url: str | None, device: Device, borrow: Collection[str]) -> Profiles:
    """The store, exact; or, where parts are named that another's may differ in, one that borrows."""
    store = ProfileStore(url)
    return Borrowing(store, device, borrow) if borrow else store


def borrowed(store: Profiles) -> dict[str, Any]:
    """What was borrowed, as `Borrowing.as_dict`; nothing where the store is exact."""
    return store.as_dict() if isinstance(store, Borrowing) else {"kernels": 0, "loans": []}


def sources(store: ProfileStore, ours: Mapping[str, Mapping[str, Any]], parts: frozenset[str]) -> dict[str, list[str]]:
    """By the digest that a stored key would have under our conditions, the stored keys that differ only in `parts`.

    A digest says nothing of what it was made of: so each stored key is made anew with our documents for its own.
    """
    own = {part: canonical(document) for part, document in ours.items()}
    digests = {part: digest_of(document) for part, document in ours.items()}
    same = [part for part in ours if part not in parts]

    def work(connection: sql.Connection) -> dict[str, list[str]]:
        query = sql.select(KEYS.c.digest, KEYS.c.op, KEYS.c.method).where(
            *(KEYS.c[part] == digests[part] for part in same),
            sql.or_(*(KEYS.c[part] != digests[part] for part in parts)),
        )
        keys = connection.execute(query).all()
        texts = {
            digest: text
            for some in chunks(sorted({digest for key in keys for digest in key[1:]}))
            for digest, text in connection.execute(sql.select(DOCUMENTS).where(DOCUMENTS.c.digest.in_(some)))
        }
        found: dict[str, list[str]] = {}
        for digest, op, method in keys:
            made = digest_of_texts(**own, op=texts[op], method=texts[method])
            found.setdefault(made, []).append(digest)
        return found

    return store.database.read(work)
