"""Laws of kernels from end-to-end times alone, where the runtime tells no others.

What one kernel took is never seen; that the kernels' times add up to the whole, at many combinations of widths, is.
Every family of sites has the terms that it has in `table`: a fixed one, one for each effective width, one for their
product, and what the product costs more off the step. The sums over a plan's sites are linear in all of them, so that
they are one least-squares problem, with non-negative solutions (`nnls`).

There are more terms than plans. What no plan tells is taken from paper: multiply-adds, elements moved, weights and
kernels, each at the one rate that explains the plans best and slower off the step as the sweeps showed, make a first
estimate of every term, and each term is pulled towards its own (ridge regression, in units of the estimate).
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from pipeline.latency.sites import Site, SiteMap, Work
from pipeline.latency.table import (
    NARROW,
    OFF,
    ON,
    KernelTable,
    Law,
    Regime,
    Sample,
    family_key,
    features,
    regime_of,
)

FloatArray = NDArray[np.float64]

# Of the pull: the variance of a plan's relative error (2 %) over that of a term about its estimate (100 %). On two
# networks every strength from a third to three times of it predicts held-out plans alike.
PULL = 4e-4
UNEXPECTED = 0.02  # of the whole, for all families together, that a term may come to that paper gives nothing
LEAST_SLOWER = 0.05  # off the step, where a sweep showed less: what surrounds a kernel in its network may
ROUNDS = 3  # of least squares
FAR = 0.1  # relative error at which a plan counts half: noise stays below it, a disturbed profile does not

RATES = ("multiply-adds", "activations", "weights", "kernels")


def fit_whole(sites: SiteMap, samples: Sequence[Sample]) -> KernelTable:
    """A law for every family, from the end-to-end times of `samples`, all at one speed of the device. The table holds
    no times: none were measured."""
    families: dict[str, list[Site]] = {}
    for site in sites.sites:
        families.setdefault(family_key(site.family), []).append(site)
    ends = np.asarray([sample.end_to_end_ns for sample in samples])
    blocks = [_terms(own, samples) for own in families.values()]
    estimates = _estimates(list(families.values()), blocks, ends)
    matrix, estimate = np.hstack(blocks), np.concatenate(estimates)
    typical = np.maximum(matrix.mean(axis=0), 1e-12)
    scale = np.maximum(estimate, UNEXPECTED * ends.mean() / len(families) / typical)
    found = _pulled(matrix * scale, ends, estimate / scale) * scale
    parts = np.split(found, np.cumsum([block.shape[1] for block in blocks])[:-1])
    laws = {family: _laws(own[0], part) for (family, own), part in zip(families.items(), parts, strict=True)}
    grains = {family: own[0].grains for family, own in families.items()}
    return KernelTable({}, grains, _laws=dict(laws))


def _terms(own: Sequence[Site], samples: Sequence[Sample]) -> FloatArray:
    """(plans, terms): what each term of the family's law is multiplied with, over its sites; the last is the product
    of the widths again, as much of it as they are slower off the step."""
    count = len(own[0].widths)
    found = np.zeros((len(samples), len(features((1,) * count, own[0].grains)) + 1))
    for row, sample in zip(found, samples, strict=True):
        for site in own:
            widths = site.at(sample.channels)
            if min(widths, default=1) > 0:
                paid = features(widths, site.grains)
                row += np.append(paid, paid[-1] * _slower(site, regime_of(widths, site.grains)))
    return found


def _slower(site: Site, regime: Regime) -> float:
    """The share of its time that the site takes more in the regime, as far as its sides showed it by themselves."""
    known = _work(site).slower or (0.0,) * len(regime)
    return sum(max(each, LEAST_SLOWER) for each, where in zip(known, regime, strict=True) if where == OFF)


def _estimates(families: Sequence[Sequence[Site]], blocks: Sequence[FloatArray], ends: FloatArray) -> list[FloatArray]:
    """Every family's terms by paper, in ns, at the rates that explain the plans best."""
    shares = [_by_rate(_mean_work(own), len(own[0].widths)) for own in families]
    total = np.sum([block @ share for block, share in zip(blocks, shares, strict=True)], axis=0)
    scale = np.maximum(total.max(axis=0), 1e-12)
    rates = nnls(total / scale / ends[:, None], np.ones(len(ends)))[0] / scale
    return [share @ rates for share in shares]


def _by_rate(work: Work, widths: int) -> FloatArray:
    """(terms, rates): how much of each of RATES a unit of each term is."""
    found = np.zeros((widths + 2 if widths == 1 else widths + 3, len(RATES)))
    macs, moved, weights, kernels = range(len(RATES))
    found[0, kernels] = 1.0
    found[1, moved] += work.reads
    found[widths, moved] += work.makes
    found[-2, macs] += work.macs
    found[-2, weights] += work.weights
    found[-1] = found[-2]
    return found


def _work(site: Site) -> Work:
    assert site.work is not None, "sites of a runtime that tells kernels are fitted to their kernels"
    return site.work


def _mean_work(own: Sequence[Site]) -> Work:
    macs, weights, reads, makes = np.mean([_work(site)[:4] for site in own], axis=0).tolist()
    return Work(macs, weights, reads, makes)


def _pulled(matrix: FloatArray, ends: FloatArray, towards: FloatArray) -> FloatArray:
    """Least squares of the relative error, in a few rounds that leave disturbed plans behind (Cauchy's weights), with
    every unknown pulled `towards` its estimate; none is negative."""
    pull = np.sqrt(PULL) * np.eye(len(towards))
    trust: FloatArray = np.ones(len(ends))
    found = towards
    for _ in range(ROUNDS):
        weight = np.sqrt(trust)
        left = np.vstack([matrix * (weight / ends)[:, None], pull])
        found = nnls(left, np.append(weight, np.sqrt(PULL) * towards))[0]
        trust = 1 / (1 + ((matrix @ found / ends - 1) / FAR) ** 2)
    return found


def _laws(site: Site, terms: FloatArray) -> tuple[Law, Mapping[Regime, Law]]:
    """The family's law, and one for every way to be off the step."""

    def law(regime: Regime) -> Law:
        weights = terms[:-1].copy()
        weights[-1] += _slower(site, regime) * terms[-1]
        return Law(site.grains, weights)

    regimes = itertools.product((ON, OFF, NARROW), repeat=len(site.grains))
    return law((ON,) * len(site.grains)), {regime: law(regime) for regime in regimes if OFF in regime}
