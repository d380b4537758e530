"""A network's profile as JSON, and back: what later stages and later runs read."""

from collections.abc import Mapping
from typing import Any

from pipeline.allocation.problem import Width
from pipeline.graph.model import Model
from pipeline.latency.candidates import Candidates
from pipeline.latency.predict import HeldOut, fit
from pipeline.latency.profiling import NetworkProfile
from pipeline.latency.sites import Site, SiteMap
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
            }
            for site in profile.latency.sites.sites
        ],
        "samples": [
            {
                "channels": dict(s.channels),
                "sites_ns": dict(s.sites_ns),
                "kernels": dict(s.kernels),
                "end_to_end_ns": s.end_to_end_ns,
            }
            for s in profile.latency.samples
        ],
        "candidates": {group: list(counts) for group, counts in profile.candidates.channels.items()},
        "stairs": {
            group: {"widths": list(stairs.widths), "times_ns": list(stairs.times_ns)}
            for group, stairs in profile.candidates.stairs.items()
        },
        "heldout": {
            "plans": profile.heldout.plans,
            "median_error": profile.heldout.median_error,
            "p95_error": profile.heldout.p95_error,
        },
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
        )
        for entry in data["sites"]
    )
    owner = {node: site.name for site in sites for node in site.nodes}
    maker = {name: node.name for node in model.proto.graph.node for name in node.output}
    samples = [Sample(s["channels"], s["sites_ns"], s["kernels"], s["end_to_end_ns"]) for s in data["samples"]]
    stairs = {
        group: Staircase({"group": group}, tuple(entry["widths"]), tuple(entry["times_ns"]))
        for group, entry in data["stairs"].items()
    }
    candidates = Candidates({group: tuple(counts) for group, counts in data["candidates"].items()}, stairs)
    return NetworkProfile(
        fit(SiteMap(sites, owner, maker), samples),
        candidates,
        HeldOut(**data["heldout"]),
        data["built"],
        data["reused"],
        tuple(data["base_kernels"]),
    )
