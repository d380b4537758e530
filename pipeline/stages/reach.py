"""Why a latency goal is out of reach: what the fastest plan still spends its time on, and what keeps it there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.allocation import Choice
from pipeline.graph.channels import ChannelGroup
from pipeline.graph.couple import Channels
from pipeline.graph.model import Model
from pipeline.latency.predict import LatencyModel
from pipeline.latency.sites import Site

MOST_NAMED = 3
WORTH_NAMING = 0.02  # of the remaining time; less explains nothing
OUTSIDE = "outside of kernels"


@dataclass(frozen=True)
class Remaining:
    """One place where the fastest plan still spends time: `share` of the plan's predicted time, and why it is there."""

    name: str
    share: float
    because: str


def what_remains(
    model: Model,
    channels: Channels,
    latency: LatencyModel,
    plan: Mapping[str, int],
    choices: Sequence[Choice],
    candidates: Mapping[str, Sequence[int]],
) -> tuple[Remaining, ...]:
    """The largest parts of what `plan`, the fastest that is allowed, is predicted to take, largest first.

    `choices` are the groups that may be cut, with the widths that are allowed; `candidates` all widths that are known.
    """
    whole_ns = latency.predict_ns(plan)
    tables = latency.cost_tables()
    parts = [
        Remaining(site.name, table.at(plan) / whole_ns, _because(site, model, channels, plan, choices, candidates))
        for site, table in zip(latency.sites.sites, tables, strict=True)
    ]
    parts.append(Remaining(OUTSIDE, latency.offset_ns / whole_ns, "no width changes it"))
    largest = sorted((part for part in parts if part.share >= WORTH_NAMING), key=lambda part: -part.share)
    return tuple(largest[:MOST_NAMED])


def as_sentence(parts: Sequence[Remaining]) -> str:
    """`What remains: conv1 31 % (its channels are locked: ...), ...`; empty where nothing is known."""
    if not parts:
        return ""
    return "What remains: " + "; ".join(f"{part.name} {part.share:.0%} ({part.because})" for part in parts) + "."


def _because(
    site: Site,
    model: Model,
    channels: Channels,
    plan: Mapping[str, int],
    choices: Sequence[Choice],
    candidates: Mapping[str, Sequence[int]],
) -> str:
    allowed = {choice.group: choice for choice in choices}
    touched = {group for width in site.widths for group, _ in width.terms}
    outside = sorted(touched - set(allowed))
    held = [group for group in sorted(touched & set(allowed)) if _held(allowed[group], plan, candidates)]
    locked = _locked(site, model, channels)
    if not touched:
        return f"locked: {locked}" if locked else "no group of channels that may be cut runs through it"
    if held:
        return f"the floor, or a branch that may not vanish, holds {', '.join(held[:MOST_NAMED])}"
    if outside:
        return f"{', '.join(outside[:MOST_NAMED])} may not be cut: left out by --include, --exclude or --exact"
    if locked:
        return f"at its narrowest on one side, the other is locked: {locked}"
    return "at the narrowest width that is worth its time"


def _held(choice: Choice, plan: Mapping[str, int], candidates: Mapping[str, Sequence[int]]) -> bool:
    """Whether a narrower width is known that is not allowed."""
    return plan[choice.group] == choice.options[0].channels > min(candidates.get(choice.group, ()), default=0)


def _locked(site: Site, model: Model, channels: Channels) -> str:
    """Why channels that the site's own nodes make or read cannot be cut; empty where none of them is locked."""
    tensors = {name for node in model.proto.graph.node if node.name in site.nodes for name in node.input}
    reasons = [_reason(group) for group in channels.groups if any(piece.tensor in tensors for piece in group.slices)]
    return next((reason for reason in reasons if reason), "")


def _reason(group: ChannelGroup) -> str:
    return (group.locked_because or "").rstrip(".")
