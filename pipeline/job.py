"""One compression under way: what was asked for, opened once, and where its stages keep their results."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calibration.batches import Samples
from pipeline.goal import Goal
from pipeline.graph.channels import ChannelGroup
from pipeline.recipe import Recipe
from pipeline.stages.opening import Opened
from pipeline.workspace import Workspace
from targets.connection import Connection
from targets.profiles.store import ProfileStore

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, eq=False)
class Job:
    """What all stages of one compression share: what was asked for, opened once."""

    recipe: Recipe
    goal: Goal
    opened: Opened
    groups: tuple[ChannelGroup, ...]
    data: Samples | None
    validation: Samples | None
    connection: Connection
    store: ProfileStore
    work: Workspace
    on_progress: Progress | None
    rewrite: bool = False
    normalised: Opened | None = None
    """`opened` with batch-norm put back, where it was: this one is scored, cut and trained, that one is timed."""
    on_finding: Callable[[str], None] | None = None

    def say(self, finding: str) -> None:
        """A sentence for whoever waits."""
        if self.on_finding:
            self.on_finding(finding)

    @property
    def trained(self) -> Opened:
        """The network that is scored, cut and trained; a plan of the one is a plan of the other."""
        return self.normalised or self.opened

    @property
    def groups_of_trained(self) -> tuple[ChannelGroup, ...]:
        """`groups`, as they lie in the network that is trained."""
        own = {group.id: group for group in self.trained.channels.groups}
        return tuple(own[group.id] for group in self.groups)

    @property
    def constants(self) -> str:
        """A network that is trained afterwards does without the constants that vanished branches leave."""
        return "dropped" if self.recipe.recovery is not None else "kept"

    @property
    def settling(self) -> dict[str, Any]:
        """What happens to the graph between the proof and the device."""
        return {"constants": self.constants, "rewrite": self.rewrite}

    @property
    def network(self) -> dict[str, Any]:
        """What identifies the graph and the groups that may be cut, for the stages' digests."""
        return {
            "model": self.opened.sha256,
            "shapes": dict(self.opened.model.bound),
            "groups": [g.id for g in self.groups],
        }

    @property
    def scoring(self) -> dict[str, Any]:
        """What scores depend on."""
        recipe = self.recipe
        choices = ("criterion", "normalisation", "samples_for_scoring", "seed")
        return {
            **self.network,
            **{name: getattr(recipe, name) for name in choices},
            "data": file_identity(recipe.data),
            "regularisation": recipe.regularisation.model_dump(),
            "preprocessing": self.preprocessing,
            "batchnorm": self.normalised is not None,
        }

    @property
    def recovering(self) -> dict[str, Any]:
        """What a recovery depends on besides the cut network."""
        recovery = self.recipe.recovery
        return {
            "recovery": asdict(recovery) if recovery else None,
            "data": file_identity(self.recipe.data),
            "preprocessing": self.preprocessing,
            "batchnorm": self.normalised is not None,
        }

    @property
    def preprocessing(self) -> dict[str, Any] | None:
        return asdict(self.recipe.preprocessing) if self.recipe.preprocessing else None


def file_identity(source: str | None) -> list[Any] | None:
    """A data source's name, and size and time where it is a file: another file under the same name is other data."""
    if source is None or not Path(source).is_file():
        return None if source is None else [source]
    status = Path(source).stat()
    return [source, status.st_size, status.st_mtime_ns]
