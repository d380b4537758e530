"""A network's profile as JSON, and back: what later stages and later runs read."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from pipeline.allocation.problem import Width
from pipeline.graph.model import Model
from pipeline.latency.candidates import Candidates
from pipeline.latency.grain import Grain
from pipeline.latency.heldout import HeldOut, Miss, spread_of
from pipeline.latency.predict import fit
from pipeline.latency.profiling import NetworkProfile
from pipeline.latency.sites import Site, SiteMap, Work
from pipeline.latency.stairs import Staircase
from pipeline.latency.table import Sample


def to_json(profile: NetworkProfile) -> dict[str, Any]:
    """Everything `from_json` needs; the fit is made anew from the samples."""
    return {
        "sites": [
            {
                "name": site.name,
                "family": dict(site.family),
                "widths": [[list(map(list, width.terms)), width.constant] for width in site.widths],
                "nodes": sorted(site.nodes),
                "linear": site.linear,
                "grains": [[grain.step, grain.block] for grain in site.grains],
                "work": site.work._asdict() if site.work else None,
            }
            for site in profile.latency.sites.sites
        ],
        "told": profile.latency.sites.told,
        "samples": [
            {
                "channels": dict(s.channels),
                "sites_ns": dict(s.sites_ns),
                "kernels": dict(s.kernels),
                "end_to_end_ns": s.end_to_end_ns,
                "gauge_ns": s.gauge_ns,
                "stream_ns": s.stream_ns,
            }
            for s in profile.latency.samples
        ],
        "candidates": {group: list(counts) for group, counts in profile.candidates.channels.items()},
        "stairs": {
            group: {"widths": list(stairs.widths), "times_ns": list(stairs.times_ns), "edges": list(stairs.edges)}
            for group, stairs in profile.candidates.stairs.items()
        },
        "known": {
            family: [[list(widths), time] for widths, time in times.items()]
            for family, times in profile.latency.known.items()
        },
        "heldout": asdict(profile.heldout),
        "built": profile.built,
        "reused": profile.reused,
        "base_kernels": list(profile.base_kernels),
    }


def from_json(data: Mapping[str, Any], model: Model) -> NetworkProfile:
    """The profile that `to_json` wrote; `model` is the uncut network it was taken of."""
    sites = tuple(
        Site(
            entry["name"],
            entry["family"],
            tuple(Width(tuple((group, step) for group, step in terms), c) for terms, c in entry["widths"]),
            frozenset(entry["nodes"]),
            entry["linear"],
            tuple(Grain(*grain) for grain in entry["grains"]),
            Work(**{**entry["work"], "slower": tuple(entry["work"]["slower"])}) if entry["work"] else None,
        )
        for entry in data["sites"]
    )
    owner = {node: site.name for site in sites for node in site.nodes}
    maker = {name: node.name for node in model.proto.graph.node for name in node.output}
    samples = [Sample(**entry) for entry in data["samples"]]
    known = {family: {tuple(widths): time for widths, time in times} for family, times in data["known"].items()}
    stairs = {
        group: Staircase({"group": group}, tuple(entry["widths"]), tuple(entry["times_ns"]), tuple(entry["edges"]))
        for group, entry in data["stairs"].items()
    }
    candidates = Candidates({group: tuple(counts) for group, counts in data["candidates"].items()}, stairs)
    heldout = HeldOut(
        **{**data["heldout"], "misses": tuple(Miss(**miss) for miss in data["heldout"]["misses"]),
           "spread": tuple(data["heldout"]["spread"])}
    )  # fmt: skip
    return NetworkProfile(
        replace(
            fit(SiteMap(sites, owner, maker, data["told"]), samples, known),
            spread=spread_of(heldout),
            candidates=candidates.channels,
        ),
        candidates,
        heldout,
        data["built"],
        data["reused"],
        tuple(data["base_kernels"]),
    )
