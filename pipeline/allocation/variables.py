"""The variables of the allocation problem: channels of groups, and sums of them, each the sum before it and one group.

A concatenation of many parts is a chain: its partial sums are variables too, shared with the other sums that begin with
the same parts, as those of a densely connected network do.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.allocation.problem import Choice
from pipeline.allocation.selectors import Terms

Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Variable:
    """One out of `values`. A sum has two `parents` (variable numbers), and `index[a, b]` is the position among its
    values where the parents are at positions a and b; a group has none."""

    terms: Terms
    values: tuple[int, ...]
    parents: tuple[int, int] | None = None
    index: Index | None = None

    def __len__(self) -> int:
        return len(self.values)


def find_variables(choices: Sequence[Choice], sums: Iterable[Terms]) -> tuple[Variable, ...]:
    """One variable per group, in the choices' order, then the sums asked for and the partial sums they need."""
    position = {choice.group: number for number, choice in enumerate(choices)}
    found = [Variable(((c.group, 1),), tuple(option.channels for option in c.options)) for c in choices]
    chains: dict[Terms, int] = {}
    for terms in sorted(sums, key=lambda terms: (len(terms), terms)):
        begun = max((have for have in chains if set(have) <= set(terms)), key=len, default=())
        rest = sorted(set(terms) - set(begun), key=lambda term: position[term[0]])
        if begun:
            base, before = chains[begun], np.asarray(found[chains[begun]].values, np.int64)
        else:
            (group, step), *rest = rest
            base, before = position[group], step * np.asarray(found[position[group]].values, np.int64)
            begun = ((group, step),)
        for group, step in rest:
            more = step * np.asarray(found[position[group]].values, np.int64)
            before, index = np.unique(before[:, None] + more[None, :], return_inverse=True)
            begun = tuple(sorted((*begun, (group, step))))
            index = index.reshape(len(found[base]), len(more)).astype(np.int64)
            found.append(Variable(begun, tuple(before.tolist()), (base, position[group]), index))
            base = chains[begun] = len(found) - 1
    return tuple(found)
