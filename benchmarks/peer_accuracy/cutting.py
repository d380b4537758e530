"""Step `cut`: every point as a network that can be trained, batch-norm kept."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.networks import export
from benchmarks.networks.cifar_resnet import CifarResNet, stream_layers, trained
from benchmarks.peer import Criterion, cut_to_share
from benchmarks.peer_accuracy.points import (
    IMAGE,
    PREPROCESSING,
    SCORED_ON,
    SEED,
    SIZE,
    Point,
    original,
)
from calibration.batches import Samples, take
from pipeline.goal import parse_goal
from pipeline.graph.flops import paper_cost
from pipeline.graph.model import load, save
from pipeline.graph.rewrite import rewritten
from pipeline.importance.normalise import default_normalisation
from pipeline.latency.profiling import NetworkProfile, PlanSpace, profile_network
from pipeline.stages.allocating import decide_on_device
from pipeline.stages.building import build_and_check
from pipeline.stages.cutting import cut_and_prove
from pipeline.stages.opening import Opened, groups_to_cut, open_samples
from pipeline.stages.scoring import Scores, best_channels, score_channels
from pipeline.stages.timing import REWRITE_SESSIONS, WORTH_A_REWRITE
from targets.connection import Connection, connect
from targets.errors import CutbackError
from targets.measure import measure
from targets.measurement import ratio
from targets.profiles.store import ProfileStore
from targets.target import find_target

SAME_OUTPUTS = 1e-4
BATCH = 128
STREAM = "only the inner channels of each block are cut: its dependency graph breaks on the parameter-free shortcuts"


@dataclass(frozen=True)
class Asked:
    """What the step was called with."""

    points: Sequence[Point]
    checkpoints: Path
    data: Path
    db: str | None
    criterion: str
    peer_criterion: Criterion


def cut_all(asked: Asked) -> None:
    for network in dict.fromkeys(point.network for point in asked.points):
        module = trained(network, _checkpoint(asked.checkpoints, network))
        path = asked.points[0].work / network / "original.onnx"
        export(module, path, SIZE, image=IMAGE)
        check_outputs(module, _checkpoint(asked.checkpoints, network), path)
        print(f"{network}: exported, outputs as the checkpoint's", flush=True)
        with ExitStack() as stack:
            ours = Ours(original(asked.points[0].work, network), asked, path.parent, stack)
            for point in (point for point in asked.points if point.network == network):
                if point.done("cut.json"):
                    print(f"{network} {point.name}: already cut", flush=True)
                    continue
                if point.method != "ours" and module.linear.weight.grad is None:
                    take_gradients(module, scoring_samples(ours.opened, asked.data))
                result = ours.cut(point) if point.method == "ours" else cut_peer(point, module, asked.peer_criterion)
                point.write("cut.json", {**result, **same_as(point, result, asked.points)})
                print(f"{network} {point.name}: {describe(point.read('cut.json'))}", flush=True)


def take_gradients(module: nn.Module, samples: Samples) -> None:
    """What the peer's Taylor criterion reads: the gradient of the mean cross-entropy, in eval mode."""
    for batch in samples.batches(BATCH):
        assert batch.labels is not None
        images, labels = torch.from_numpy(batch.inputs[IMAGE]), torch.from_numpy(batch.labels)
        (F.cross_entropy(module(images), labels) * len(labels) / len(samples)).backward()


def cut_peer(point: Point, module: CifarResNet, criterion: Criterion) -> Mapping[str, Any]:
    names = {layer: name for name, layer in module.named_modules()}
    ignored = [names[layer] for layer in stream_layers(module)] + ["linear"]
    image = torch.zeros(1, 3, SIZE, SIZE)
    found = cut_to_share(module, image, point.rule(criterion), point.share, ignored)
    export(found.network, point.folder / "cut.onnx", SIZE, image=IMAGE)
    check_outputs(found.network, point.folder / "cut.onnx")
    return {
        "ratio": found.ratio,
        "criterion": criterion,
        "excluded": STREAM,
        "peer_flops_left": found.peer_left,
        "flops_left": flops_left(point),
        "widths": [layer.out_channels for layer in found.network.modules() if isinstance(layer, nn.Conv2d)],
    }


class Ours:
    """The project's own way to a latency goal, up to the recovery; what all goals share is found once."""

    def __init__(self, opened: Opened, asked: Asked, folder: Path, stack: ExitStack) -> None:
        self.opened = opened
        self._asked = asked
        self._folder = folder
        self._stack = stack
        self._groups = groups_to_cut(opened.channels)
        self._store = ProfileStore(asked.db)

    def cut(self, point: Point) -> Mapping[str, Any]:
        opened, groups = self.opened, self._groups
        profile, rewrite = self._profile, self._rewrite["used"]
        space = PlanSpace(groups, profile.candidates.channels, "dropped", rewrite)
        point.folder.mkdir(parents=True, exist_ok=True)
        base = build_and_check(
            opened.model, self._folder / "uncut.onnx", self._folder / "uncut-engine.onnx", self._connection
        )
        try:
            decision = decide_on_device(
                opened, groups, self._scores, parse_goal(f"latency<={point.share:g}x"), profile.latency, space,
                base.engine, self._connection, self._store, point.folder, allocator="exact", floor=0.1, vanish=True,
                quick=False, seed=SEED,
            )  # fmt: skip
        except CutbackError as error:
            return {"failure": str(error)}
        kept = best_channels(self._scores, {group.id: decision.channels[group.id] for group in groups})
        network = cut_and_prove(opened, kept, constants="dropped", rewrite=rewrite, seed=SEED)
        save(network.model, point.folder / "cut.onnx")
        return {
            "criterion": self._asked.criterion,
            "flops_left": flops_left(point),
            "decision": decision.as_json(),
            "proof": network.proof,
            "rewrite": dict(self._rewrite),
            "widths": list(decision.channels.values()),
        }

    @cached_property
    def _connection(self) -> Connection:
        return self._stack.enter_context(connect(find_target("local")))

    @cached_property
    def _rewrite(self) -> Mapping[str, Any]:
        """Whether the exact rewrites make the uncut network faster here."""
        paths = [self._folder / "as-given.onnx", self._folder / "rewritten.onnx"]
        for model, path in zip((self.opened.model, rewritten(self.opened.model)), paths, strict=True):
            save(model, path)
        plain, other = measure(paths, self._connection, sessions=REWRITE_SESSIONS, quick=True, seed=SEED)
        compared = ratio(plain, other)
        print(f"rewrites make the uncut network {compared.value:.2f}x faster", flush=True)
        return {"used": compared.value > WORTH_A_REWRITE, "speed_up": asdict(compared)}

    @cached_property
    def _profile(self) -> NetworkProfile:
        return profile_network(
            self.opened.model, self.opened.channels, self._groups, self._connection, self._store,
            constants="dropped", rewrite=self._rewrite["used"], seed=SEED,
        )  # fmt: skip

    @cached_property
    def _scores(self) -> Scores:
        criterion = self._asked.criterion
        return score_channels(
            self.opened.model, self.opened.channels, self._groups, criterion=criterion,
            normalisation=default_normalisation(criterion), samples=_samples(self.opened, self._asked.data),
            count=SCORED_ON, seed=SEED,
        )  # fmt: skip


def same_as(point: Point, result: Mapping[str, Any], asked: Sequence[Point]) -> Mapping[str, str]:
    """An earlier point of the method that came out at the same widths, which is then not trained twice."""
    if "failure" in result:
        return {}
    for other in asked:
        if other == point or (other.network, other.method) != (point.network, point.method):
            continue
        if other.done("cut.json") and other.read("cut.json").get("widths") == result["widths"]:
            return {"same_as": other.name}
    return {}


def check_outputs(module: nn.Module, *paths: Path) -> None:
    """Every file gives what the module gives, on noise, or the comparison is of something else."""
    image = torch.randn(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(SEED))
    with torch.no_grad():
        expected = module(image).numpy()
    for path in paths:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        difference = float(np.abs(found - expected).max())
        if not difference <= SAME_OUTPUTS:
            raise CutbackError(f"{path}: its outputs differ from the torch module's by {difference:.2g}.")


def flops_left(point: Point) -> float:
    """By the project's own count, for both sides."""
    before = paper_cost(original(point.work, point.network).model).flops
    return paper_cost(load(point.folder / "cut.onnx")).flops / before


def scoring_samples(opened: Opened, data: Path) -> Samples:
    return take(_samples(opened, data), SCORED_ON, SEED)


def describe(result: Mapping[str, Any]) -> str:
    if "failure" in result:
        return f"not reached: {result['failure']}"
    same = f", the same network as {result['same_as']}" if "same_as" in result else ""
    return f"{result['flops_left']:.3f} of the multiply-adds left, widths {result['widths']}{same}"


def _samples(opened: Opened, data: Path) -> Samples:
    return open_samples(opened.model, str(data / "train.npz"), PREPROCESSING)


def _checkpoint(folder: Path, network: str) -> Path:
    return folder / f"{network}__ts_bn.onnx"
