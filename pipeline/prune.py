"""A cut without training: score, choose widths, cut, prove, write."""

import contextlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from calibration.batches import Samples
from calibration.preprocessing import Preprocessing
from pipeline.allocation import keep as keep_share
from pipeline.goal import Goal
from pipeline.graph.channels import ChannelGroup
from pipeline.graph.labels import Blocks
from pipeline.graph.model import save
from pipeline.graph.rewrite import rewritten
from pipeline.importance import default_normalisation
from pipeline.latency.profiling import PlanSpace, profile_network
from pipeline.lowering import connect
from pipeline.plan import describe_plan, write_plan
from pipeline.stages.absorbing import absorb_means
from pipeline.stages.allocating import Decision, decide_on_device, decide_on_paper
from pipeline.stages.building import needs_rewrites
from pipeline.stages.cutting import cut_and_prove
from pipeline.stages.opening import Opened, groups_to_cut, open_model, open_samples
from pipeline.stages.problem import even_candidates
from pipeline.stages.scoring import Scores, best_channels, score_channels
from pipeline.stages.trial import NetworkTrial
from targets.connection import Tell, silent
from targets.errors import BadInput
from targets.profiles.store import ProfileStore
from targets.target import find_target

Progress = Callable[[int, int, str], None]


def prune(
    model: str,
    output: Path,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    keep: float | None = None,
    goal: Goal | None = None,
    target: str = "local",
    criterion: str = "l2",
    normalisation: str | None = None,
    seed: int = 0,
    plan: Path | None = None,
    masked: Path | None = None,
    absorb: bool = False,
    data: str | None = None,
    preprocessing: Preprocessing | None = None,
    allocator: str = "exact",
    floor: float = 0.1,
    floors: Sequence[tuple[str, float]] = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    inexact: bool = False,
    blocks: Blocks = "auto",
    db: str | None = None,
    on_progress: Progress | None = None,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Write the cut network to `output`, and on request the plan and the masked original.

    Either `keep`, the share of every group that stays (rounded to the group's step only), or `goal`, for which widths
    are chosen; one in latency is measured on the target. Nothing is written unless the proof holds.
    """
    if (keep is None) == (goal is None):
        raise BadInput("Give either --keep, a share of every group, or --goal.")
    if keep is not None and not 0 < keep <= 1:
        raise BadInput(f"--keep is a share above 0 and at most 1; it was {keep:g}.")
    if absorb and data is None:
        raise BadInput("--absorb averages over data: give --data.")
    opened = open_model(model, shapes or {}, blocks=blocks)
    samples = open_samples(opened.model, data, preprocessing) if data else None
    # What a norm runs over changes its statistics when cut, and nothing is trained here: only when asked for.
    groups = groups_to_cut(opened.channels, include=include, exclude=exclude, inexact=inexact)
    scores = score_channels(
        opened.model, opened.channels, groups, criterion=criterion,
        normalisation=normalisation or default_normalisation(criterion), samples=samples,
        seed=seed, on_progress=on_progress,
    )  # fmt: skip
    doubts: tuple[str, ...] = ()
    if keep is not None:
        channels: Mapping[str, int] = keep_share({group.id: group.channels for group in groups}, keep)
        decision = None
    else:
        assert goal is not None
        decision, doubts = _decide(
            opened, groups, scores, goal, target, allocator, floor, floors, samples, seed, db, on_progress, tell
        )
        channels = decision.channels
    kept = best_channels(scores, {group.id: channels[group.id] for group in groups})
    network = cut_and_prove(opened, kept, constants="kept", seed=seed)
    final = (
        absorb_means(opened.model, network.model, opened.channels, kept, samples)
        if absorb and samples
        else network.model
    )
    written = describe_plan(opened.model, opened.channels, kept, final, "kept")
    files: dict[Path, Callable[[Path], None]] = {Path(output): lambda path: save(final, path)}
    if masked:
        files[Path(masked)] = lambda path: save(network.masked, path)
    if plan:
        files[Path(plan)] = lambda path: write_plan(path, written)
    _write_all(files)
    return {
        "output": str(output),
        "flops": written["flops"],
        "params": written["params"],
        "groups": [{key: entry[key] for key in ("id", "width", "step", "kept")} for entry in written["groups"]],
        "proof": dict(network.proof),
        "doubts": [*doubts, *([network.proof["doubt"]] if network.proof["doubt"] else [])],
        "absorbed": absorb,
        "left_inexact": 0 if inexact else sum(not group.exact for group in opened.channels.free),
        "decision": asdict(decision) if decision else None,
    }


def _write_all(files: Mapping[Path, Callable[[Path], None]]) -> None:
    """All of them or none: where one cannot be written, those that were not there before are taken away again."""
    new = [path for path in files if not path.exists()]
    try:
        for path, write in files.items():
            write(path)
    except BaseException:
        for path in new:
            with contextlib.suppress(OSError):
                path.unlink()
        raise


def _decide(
    opened: Opened, groups: Sequence[ChannelGroup], scores: Scores, goal: Goal, target: str, allocator: str,
    floor: float, floors: Sequence[tuple[str, float]], samples: Samples | None, seed: int, db: str | None,
    on_progress: Progress | None, tell: Tell,
) -> tuple[Decision, tuple[str, ...]]:  # fmt: skip
    """The widths, and what is doubtful about how they were chosen."""
    trials = None
    if samples is not None:
        trials = partial(NetworkTrial, opened.model, opened.channels, scores, samples, seed=seed)
    if goal.bound("latency") is None:
        on_paper = decide_on_paper(
            opened, groups, scores, goal, candidates=even_candidates(groups), allocator=allocator, floor=floor,
            floors=floors, vanish=True, trials=trials,
        )  # fmt: skip
        return on_paper, ()
    store = ProfileStore(db)
    with (
        connect(find_target(target), tell=tell) as connection,
        tempfile.TemporaryDirectory(prefix="cutback-prune-") as folder,
    ):
        rewrite = needs_rewrites(opened.model, connection)
        found = profile_network(
            opened.model, opened.channels, groups, connection, store, rewrite=rewrite, seed=seed,
            on_progress=on_progress,
        )  # fmt: skip
        uncut = Path(folder, "uncut.onnx")
        save(rewritten(opened.model) if rewrite else opened.model, uncut)
        base = connection.build(uncut, Path(folder, "uncut-engine"), shapes=opened.model.bound)
        decided = decide_on_device(
            opened, groups, scores, goal, found.latency,
            PlanSpace(tuple(groups), found.candidates.channels, rewrite=rewrite), base, connection, store, Path(folder),
            allocator=allocator, floor=floor, floors=floors, vanish=True, quick=False, seed=seed, trials=trials,
            on_progress=on_progress,
        )  # fmt: skip
        return decided, found.doubts
