"""Torch-Pruning, used as its documentation shows: a global ranking, one step, and the ratio that leaves the FLOPs asked
for.

    python -m pip install --no-deps torch-pruning==1.6.1

It takes a ratio of channels, not of FLOPs. The ratio is searched with its own ranking and its own rounding, on groups
that it names and that are not yet cut; the network that comes out is counted again.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.networks.yolo import ANCHORS

VERSION = "1.6.1"
RATIOS = np.arange(0.01, 1.0, 0.01)  # a scan, no bisection: what it leaves whole again makes FLOPs go up and down
FINER = 20  # steps between the last ratio that leaves more than asked for and the first that does not

Criterion = Literal["magnitude", "taylor"]
Importance = Callable[[Any], Tensor | None]


@dataclass(frozen=True)
class Rule:
    """How the peer is used: its criterion, and the multiple that channels are rounded to (None: its default)."""

    criterion: Criterion
    round_to: int | None = None


@dataclass(frozen=True, eq=False)
class Cut:
    """The cut network, and shares of multiply-adds left: as counted here and by the peer itself. `removed`: by name of
    the layer that a group begins with, the output channels it lost."""

    network: nn.Module
    ratio: float
    left: float
    peer_left: float
    removed: Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Step:
    """What a step of the peer would do: the share of multiply-adds left, and `removed` as in Cut."""

    left: float
    removed: Mapping[str, NDArray[np.int64]]


class Remembered:
    """An importance that is computed once for each group."""

    def __init__(self, importance: Importance) -> None:
        self._importance = importance
        self._known: dict[tuple[int, str], Tensor | None] = {}

    def __call__(self, group: Any) -> Tensor | None:
        dependency = group[0].dep
        key = (id(dependency.target.module), str(dependency.handler))
        if key not in self._known:
            self._known[key] = self._importance(group)
        return self._known[key]


def importance_of(criterion: Criterion) -> Importance:
    import torch_pruning as tp

    known = {"magnitude": tp.importance.GroupMagnitudeImportance, "taylor": tp.importance.GroupTaylorImportance}
    found: Importance = known[criterion]()
    return found


def pruner_of(
    network: nn.Module, image: Tensor, rule: Rule, ratio: float, ignored: Sequence[nn.Module], importance: Importance
) -> Any:
    import torch_pruning as tp

    return tp.pruner.BasePruner(
        network,
        image,
        importance=importance,
        global_pruning=True,
        pruning_ratio=ratio,
        ignored_layers=list(ignored),
        round_to=rule.round_to,
    )


def cut_to_share(network: nn.Module, image: Tensor, rule: Rule, share: float, ignored: Sequence[str]) -> Cut:
    """The network at the smallest ratio that leaves at most `share` of the multiply-adds; where none does, the least.

    Past the first one, groups that would lose everything (rounded: all but less than a multiple) are left whole again.
    `network` stays as it is; for Taylor it holds gradients. `ignored`: names of modules that are not to be cut.
    """
    import torch_pruning as tp

    whole = count(network, image)
    before, _ = tp.utils.count_ops_and_params(network, image)
    trial = pruner_of(network, image, rule, 0.5, modules(network, ignored), Remembered(importance_of(rule.criterion)))
    ratio = find_ratio(lambda each: dry_run(trial, each, network, whole).left, share)
    removed = dry_run(trial, ratio, network, whole).removed
    own = duplicate(network)
    pruner_of(own, image, rule, ratio, modules(own, ignored), importance_of(rule.criterion)).step()
    own.zero_grad(set_to_none=True)
    with torch.no_grad():
        own(image)
    after, _ = tp.utils.count_ops_and_params(own, image)
    return Cut(own, ratio, total(own, count(own, image)) / total(network, whole), after / before, removed)


def scores(network: nn.Module, image: Tensor, rule: Rule, ignored: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """By name of the layer that a group begins with: the importance of its output channels, as the peer ranks them."""
    importance = importance_of(rule.criterion)
    pruner = pruner_of(network, image, rule, 0.5, modules(network, ignored), importance)
    names = {module: name for name, module in network.named_modules()}
    found = {}
    groups = pruner.DG.get_all_groups(ignored_layers=pruner.ignored_layers, root_module_types=pruner.root_module_types)
    for group in groups:
        values = importance(group)
        if values is not None:
            found[names[group[0].dep.target.module]] = values.detach().numpy().astype(np.float64)
    return found


def find_ratio(left: Callable[[float], float], share: float) -> float:
    """The first ratio that leaves at most `share`, or the one that leaves least."""
    seen: dict[float, float] = {}
    for ratio in map(float, RATIOS):
        seen[ratio] = left(ratio)
        if seen[ratio] <= share:
            step = float(RATIOS[0])
            finer = (ratio - step + step * part / FINER for part in range(1, FINER))
            return next((each for each in finer if left(each) <= share), ratio)
    return min(seen, key=lambda each: seen[each])


def dry_run(pruner: Any, ratio: float, network: nn.Module, positions: Mapping[str, int]) -> Step:
    """What the peer's step would do at this ratio; nothing is cut."""
    pruner.current_step = 0
    pruner.per_step_pruning_ratio = [0.0, ratio]
    outputs: dict[nn.Module, set[int]] = {}
    inputs: dict[nn.Module, set[int]] = {}
    removed: dict[str, NDArray[np.int64]] = {}
    names = {module: name for name, module in network.named_modules()}
    for group in pruner.step(interactive=True):
        removed[names[group[0].dep.target.module]] = np.asarray(sorted(group[0].idxs), np.int64)
        for dependency, indices in group:
            module = dependency.target.module
            side = outputs if pruner.DG.is_out_channel_pruning_fn(dependency.handler) else inputs
            side.setdefault(module, set()).update(indices)
    lost: dict[nn.Module, tuple[int, int]] = {
        module: (len(outputs.get(module, ())), len(inputs.get(module, ())))
        for module in network.modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    }
    return Step(total(network, positions, lost) / total(network, positions), removed)


def count(network: nn.Module, image: Tensor) -> dict[str, int]:
    """For each convolution and dense layer, how many positions its weight is applied to, all calls together."""
    found: dict[str, int] = {}

    def counted(name: str) -> Any:
        def hook(module: nn.Module, _inputs: Any, output: Tensor) -> None:
            channels = output.shape[1] if isinstance(module, nn.Conv2d) else output.shape[-1]
            found[name] = found.get(name, 0) + output.numel() // channels

        return hook

    handles = [
        module.register_forward_hook(counted(name))
        for name, module in network.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    with torch.no_grad():
        network(image)
    for handle in handles:
        handle.remove()
    return found


def total(
    network: nn.Module, positions: Mapping[str, int], lost: Mapping[nn.Module, tuple[int, int]] | None = None
) -> float:
    """Multiply-adds, with `lost` (outputs, inputs) channels taken off where given."""
    named = dict(network.named_modules())
    found = 0.0
    for name, count_ in positions.items():
        module = named[name]
        outputs, inputs = (lost or {}).get(module, (0, 0))
        if isinstance(module, nn.Conv2d):
            kernel = module.kernel_size[0] * module.kernel_size[1]
            kept = module.in_channels - inputs
            depthwise = module.groups == module.in_channels > 1
            found += count_ * (module.out_channels - outputs) * kernel * (1 if depthwise else kept / module.groups)
        elif isinstance(module, nn.Linear):
            found += count_ * (module.out_features - outputs) * (module.in_features - inputs)
    return found


def modules(network: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    return [network.get_submodule(name) for name in names]


def output_layers(network: nn.Module, classes: int) -> list[str]:
    """Names of the layers whose channels are the network's outputs: one a class, or a detector's for each anchor."""
    wanted = (classes, ANCHORS * (5 + classes))
    return [
        name
        for name, module in network.named_modules()
        if (isinstance(module, nn.Linear) and module.out_features in wanted)
        or (isinstance(module, nn.Conv2d) and module.out_channels in wanted)
    ]


def duplicate(network: nn.Module) -> nn.Module:
    """A copy with its gradients, which a deep copy leaves behind."""
    own = copy.deepcopy(network)
    for ours, theirs in zip(own.parameters(), network.parameters(), strict=True):
        ours.grad = None if theirs.grad is None else theirs.grad.clone()
    return own
