"""Kinds of kernels, one sweep for each, and the grains that every site of the network has by them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from pipeline.graph.flops import node_flops
from pipeline.graph.model import Model
from pipeline.latency.alone import Sweep, sweep_of
from pipeline.latency.grain import Curve, Grain, common, settle
from pipeline.latency.sites import Site, SiteMap

NARROWEST = 8  # widths below it have no stairs worth a sweep
WIDE_ENOUGH = 48  # three of the widest blocks that processors have


class Kind(NamedTuple):
    """Kernels of one kind are taken to share their grain."""

    op: str
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    transposed: bool
    per_group: int | None
    groups: int | None
    side: str


Curves = Mapping[Kind, Curve]


def kind_of(sweep: Sweep) -> Kind:
    attributes = sweep.op["attributes"]
    return Kind(
        sweep.node.op_type,
        tuple(sweep.weight_shape[2:]),
        tuple(attributes.get("strides", ())),
        tuple(attributes.get("dilations", ())),
        bool(attributes.get("transB")),
        sweep.per_group,
        sweep.groups,
        sweep.side,
    )


def sweeps_of(model: Model, sites: SiteMap) -> dict[Kind, Sweep]:
    """One sweep for each kind of kernel and side: where a single channel costs most, its stairs stand out of the noise;
    among kernels wide enough to have some, if there are any."""
    flops = flops_of(model, sites)
    found: dict[Kind, list[tuple[bool, float, Sweep]]] = {}
    for site in sites.sites:
        for sweep in _sweeps(model, site):
            if sweep is not None and sweep.full // sweep.step >= NARROWEST:
                rank = (sweep.full // sweep.step >= WIDE_ENOUGH, flops[site.name] / sweep.full, sweep)
                found.setdefault(kind_of(sweep), []).append(rank)
    return {kind: max(ranks, key=lambda rank: rank[:2])[2] for kind, ranks in found.items()}


def settled(model: Model, sites: SiteMap, curves: Curves) -> dict[Kind, Curve]:
    """The curves, a grain of its own only where it is worth it; input sides and output sides each have their usual
    one."""
    weights = weights_of(model, sites, list(curves))
    found: dict[Kind, Curve] = {}
    for side in ("in", "out", "both"):
        found |= settle({kind: curve for kind, curve in curves.items() if kind.side == side}, weights)
    return found


def weights_of(model: Model, sites: SiteMap, kinds: Sequence[Kind]) -> dict[Kind, float]:
    """Multiply-adds of all kernels of each kind."""
    flops = flops_of(model, sites)
    weights = dict.fromkeys(kinds, 0.0)
    for site in sites.sites:
        for sweep in _sweeps(model, site):
            if sweep is not None and kind_of(sweep) in weights:
                weights[kind_of(sweep)] += flops[site.name]
    return weights


def with_grains(model: Model, sites: SiteMap, curves: Curves) -> SiteMap:
    """The sites with what the sweeps showed. What was not swept (elementwise kernels, poolings) lies in memory as the
    heaviest kernels leave it, and takes their grain."""
    flops = flops_of(model, sites)
    measured = {site.name: curves_of(model, site, curves) for site in sites.sites}
    outs = [(found[-1].grain, flops[name]) for name, found in measured.items() if found]
    ins = [(found[0].grain, flops[name]) for name, found in measured.items() if len(found) == 2]
    usual = Grain(common(*_columns(ins)).step, common(*_columns(outs)).block)
    return replace(
        sites,
        sites=tuple(
            replace(
                site,
                grains=tuple(
                    Grain(max(curve.grain.step, usual.step), curve.grain.block) for curve in measured[site.name]
                )
                or (usual,) * len(site.widths),
            )
            for site in sites.sites
        ),
    )


def with_slow_paths(model: Model, sites: SiteMap, curves: Curves) -> SiteMap:
    """Sites that know their work, with how much slower each width is off the step."""

    def slower(site: Site) -> tuple[float, ...]:
        return tuple(max(curve.slower, 0.0) for curve in curves_of(model, site, curves))

    found = (replace(s, work=s.work._replace(slower=slower(s))) if s.work else s for s in sites.sites)
    return replace(sites, sites=tuple(found))


def curves_of(model: Model, site: Site, curves: Curves) -> tuple[Curve, ...]:
    """One curve a width, or none where one of them was not swept."""
    found = [curves.get(kind_of(sweep)) for sweep in _sweeps(model, site) if sweep is not None]
    known = [curve for curve in found if curve is not None]
    return tuple(known) if len(known) == len(site.widths) else ()


def flops_of(model: Model, sites: SiteMap) -> dict[str, float]:
    """Multiply-adds by site."""
    own = {node.name: float(node_flops(node, model)) for node in model.proto.graph.node}
    return {site.name: own.get(site.linear or "", 0.0) for site in sites.sites}


def _sweeps(model: Model, site: Site) -> list[Sweep | None]:
    """One for each of the site's widths."""
    return [sweep_of(model, site, side) for side in (("both",) if len(site.widths) == 1 else ("in", "out"))]


def _columns(pairs: Sequence[tuple[Grain, float]]) -> tuple[list[Grain], list[float]]:
    return [grain for grain, _ in pairs], [weight for _, weight in pairs]
