"""How good predictions are: every plan predicted by a model that has not seen it, and where it went wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.latency.folds import FEWEST, FOLDS, fold_of_each, plan_of
from pipeline.latency.predict import LatencyModel, Spread, fit
from pipeline.latency.sites import Site
from pipeline.latency.speed import speed_of
from pipeline.latency.table import OFF, family_key, regime_of

WITHIN = 0.9  # of held-out plans lie within the interval
MOST_MISSES = 3
NOISY = 0.05  # median deviation at equal widths from which on noise, or the neighbours, explains an error


@dataclass(frozen=True)
class Miss:
    """A kernel that predictions missed: by how much of the whole time, typically, and why."""

    site: str
    op: str
    share: float
    because: str


@dataclass(frozen=True)
class HeldOut:
    """Relative errors of the prediction on plans that were left out of the fit: at right edges, and at any widths
    (`anywhere_`). `misses`: where the largest errors come from. `kernels_told`: False where predictions rest on
    end-to-end times alone, and nobody can say which kernel was missed."""

    plans: int
    median_error: float
    p95_error: float
    anywhere_plans: int = 0
    anywhere_median_error: float = float("nan")
    anywhere_p95_error: float = float("nan")
    spread: tuple[float, float] = (float("nan"), float("nan"))
    misses: tuple[Miss, ...] = field(default=())
    kernels_told: bool = True


def held_out(whole: LatencyModel) -> HeldOut:
    """Cross-validation of the model over the plans it was fitted to; those with every group at one of its candidates
    are at right edges. A plan that was sampled more than once is left out as a whole, and counts once."""
    sites, samples = whole.sites, whole.samples
    first = {plan_of(sample): number for number, sample in reversed(list(enumerate(samples)))}
    if len(first) < FEWEST:
        nan = float("nan")
        return HeldOut(0, nan, nan, kernels_told=sites.told)
    errors: dict[bool, list[float]] = {True: [], False: []}
    missed: dict[str, list[float]] = {site.name: [] for site in sites.sites}
    folds = fold_of_each(samples)
    for fold in range(FOLDS):
        seen = [sample for sample, own in zip(samples, folds, strict=True) if own != fold]
        model = fit(sites, seen, whole.known, powers=whole.powers)
        for sample in (samples[number] for number in sorted(first.values()) if folds[number] == fold):
            now = sample.scaled(1 / model.slowdown(speed_of(sample)))
            errors[whole.on_edges(sample.channels)].append(model.predict_ns(sample.channels) / now.end_to_end_ns - 1)
            factor = now.end_to_end_ns / max(now.total_ns, 1e-9)
            for site in sites.sites if sites.told else ():
                expected = model.scale * model.table.cost(family_key(site.family), site.at(sample.channels))
                missed[site.name].append(abs(expected - factor * now.sites_ns[site.name]) / now.end_to_end_ns)
    return HeldOut(
        len(errors[True]),
        *_summary(errors[True]),
        len(errors[False]),
        *_summary(errors[False]),
        (_margin(errors[True]), _margin(errors[False])),
        _misses(whole, missed) if sites.told else (),
        sites.told,
    )


def spread_of(found: HeldOut) -> Spread:
    return Spread(*found.spread)


def _summary(errors: Sequence[float]) -> tuple[float, float]:
    if not errors:
        return float("nan"), float("nan")
    return float(np.median(np.abs(errors))), float(np.percentile(np.abs(errors), 95))


def _margin(errors: Sequence[float]) -> float:
    """The error that nine in ten stay under, with room for how few they are (split conformal prediction)."""
    if len(errors) < FOLDS:
        return float("nan")
    rank = min(int(np.ceil(WITHIN * (len(errors) + 1))), len(errors))
    return float(np.sort(np.abs(errors))[rank - 1])


def _misses(model: LatencyModel, missed: dict[str, list[float]]) -> tuple[Miss, ...]:
    typical = {name: float(np.mean(shares)) for name, shares in missed.items()}
    worst = sorted(model.sites.sites, key=lambda site: -typical[site.name])[:MOST_MISSES]
    return tuple(Miss(site.name, "+".join(site.family["ops"]), typical[site.name], _why(model, site)) for site in worst)


def _why(model: LatencyModel, site: Site) -> str:
    family = family_key(site.family)
    spread = model.table.spread(family)
    if spread > NOISY:
        return f"its times at equal widths differ by {spread:.0%}: noise, or what its neighbours leave it in memory"
    off = [OFF in regime_of(site.at(sample.channels), site.grains) for sample in model.samples]
    if any(off) and np.mean(off) < 0.5:
        step = max((grain.step for grain in site.grains), default=1)
        return f"only {sum(off)} of {len(off)} plans showed it at widths that are no multiple of {step}"
    return "its time does not follow its widths as blocks of them"
