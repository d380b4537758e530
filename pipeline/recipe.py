"""A recipe: everything a compression needs to know, validated once, from a file or from the command line."""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Collection, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from calibration.preprocessing import Preprocessing
from pipeline.goal import parse_goal
from pipeline.importance.criteria import CRITERIA, default_criterion
from pipeline.importance.normalise import NORMALISATIONS, default_normalisation
from pipeline.training.config import RecoveryConfig
from targets.errors import BadInput

PLACES = ("output", "db")  # where things are kept changes nothing about what they are
PATHS = ("model", "data", "validate", "validation", "example_inputs", "output", "db")

MOST_ROUNDS = 20  # past this a round takes less than measurements can tell apart

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Part(BaseModel):
    """Frozen, and closed to fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True)


class Regularisation(Part):
    """score - strength * cost(channel), costs scaled to a mean of one."""

    cost: Literal["none", "flops", "params", "memory", "bytes", "latency"] = "none"
    strength: NotNegative = 0.0


class Calibration(Part):
    """Of int8: which samples its ranges are found on, and how."""

    ranges: Literal["min-max", "entropy", "percentile", "mse"] = "entropy"
    samples: PositiveInt = 512
    exclude: tuple[str, ...] = ()
    """Patterns (`*`, `?`) of nodes that stay in floating point."""


class Recipe(Part):
    """What was asked for. Paths are absolute; entry points stay `package.module:callable`."""

    model: str
    """An .onnx file, or `package.module:callable` giving a torch module."""
    goal: str
    output: Path
    """The bundle's folder."""
    example_inputs: str | None = None
    """For torch: `package.module:callable` giving the inputs to trace with, instead of `shapes`."""
    shapes: dict[str, tuple[PositiveInt, ...]] = {}
    target: str = "local"
    data: str | None = None
    """Samples to score and train with: .npz, folder of class folders, or `module:callable`."""
    validation: str | None = Field(default=None, alias="validate")
    """Samples to measure accuracy with; never trained on."""
    preprocessing: Preprocessing | None = None
    """How stored pixels become inputs; null: samples are what the network reads."""
    metric: str = "top1"
    max_drop: NotNegative | None = None
    """Most accuracy that may be lost, in the metric's points."""
    criterion: str
    """How channels are scored; "taylor-gate" with data, else "l2"."""
    normalisation: str
    """How scores of different groups are made comparable."""
    regularisation: Regularisation = Regularisation()
    samples_for_scoring: PositiveInt = 1024
    allocator: Literal["exact", "uniform", "threshold", "knapsack", "sensitivity", "netadapt"] = "exact"
    floor: Share = 0.1
    """Share of its channels that every group keeps at least, where it may not vanish whole."""
    floors: tuple[tuple[str, Share], ...] = ()
    """(pattern, share): the floor of the groups that match, instead of `floor`; the last that matches counts. In a file
    also as a mapping."""
    rounds: Annotated[int, Field(ge=1, le=MOST_ROUNDS)] = 1
    """How many times the network is scored, cut and recovered on its way to the goal, in equal factors."""
    allow_vanish: bool = True
    include_inexact: bool | None = None
    """Also cut groups that a norm or softmax runs over: such a cut changes statistics and is reported as inexact. null:
    where recovery follows."""
    blocks: Literal["auto", "inside", "whole"] = "auto"
    """What channels in blocks lose (groups of a convolution or norm, attention heads): the same inner channels of every
    block, whole blocks, or what stays exact and leaves more choices."""
    include: tuple[str, ...] = ()
    """Patterns (`*`, `?`) of group ids; only these are cut. Empty: all."""
    exclude: tuple[str, ...] = ()
    absorb: bool = False
    """Fold what the removed channels contributed on average into their readers' biases; needs data."""
    batchnorm: Literal["auto", "put-back", "as-given"] = "auto"
    """Batch-norm that the exporter folded: put back before training and folded again ("auto": where the network looks
    as if it had it, and is trained), or left as it is given."""
    recovery: RecoveryConfig | None
    """null: none. Left out: the defaults above where there is data, none without."""
    precisions: tuple[Literal["fp32", "fp16", "bf16", "int8"], ...] | None = None
    """Engines to build beside fp32 and measure; null: the one that the target names, else those that the runtime has
    kernels for, int8 where there is data."""
    calibration: Calibration = Calibration()
    db: str | None = None
    seed: int = 0
    sessions: Annotated[int, Field(ge=2)] = 10
    """Fresh sessions a network is timed in when networks are compared."""
    quick: bool = False
    """Short timings: wider intervals, for trying things out."""

    @property
    def cuts_inexact(self) -> bool:
        """Whether groups that a norm or softmax runs over are cut."""
        return self.recovery is not None if self.include_inexact is None else self.include_inexact

    @model_validator(mode="before")
    @classmethod
    def fill_in_what_data_decides(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping):
            return fields
        with_data = fields.get("data") is not None
        criterion = fields.get("criterion", default_criterion(with_data))
        filled = {
            "criterion": criterion,
            "normalisation": default_normalisation(str(criterion)),
            "recovery": {} if with_data else None,
        }
        return {**filled, **fields}

    @field_validator("preprocessing", mode="before")
    @classmethod
    def one_value_serves_every_channel(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping):
            return fields
        return {
            name: [value] if name in ("mean", "std") and is_number(value) else value for name, value in fields.items()
        }

    @field_validator("floors", mode="before")
    @classmethod
    def floors_may_be_a_mapping(cls, value: Any) -> Any:
        return tuple(value.items()) if isinstance(value, Mapping) else value

    @field_validator("goal")
    @classmethod
    def goal_is_readable(cls, text: str) -> str:
        try:
            return parse_goal(text).text
        except BadInput as error:
            raise ValueError(str(error)) from error

    @field_validator("criterion")
    @classmethod
    def criterion_is_known(cls, name: str) -> str:
        return one_of(CRITERIA, name)

    @field_validator("normalisation")
    @classmethod
    def normalisation_is_known(cls, name: str) -> str:
        return one_of(NORMALISATIONS, name)

    @model_validator(mode="after")
    def needs_are_met(self) -> "Recipe":
        needs = {
            "recovery needs data to train with": self.recovery is not None,
            "absorb needs data to average over": self.absorb,
            "batchnorm put-back needs data to measure statistics on": self.batchnorm == "put-back",
            f"allocator {self.allocator} needs data to try plans out on": self.allocator in ("sensitivity", "netadapt"),
            f"criterion {self.criterion} needs data": CRITERIA[self.criterion].needs_data,
        }
        for need, wanted in needs.items():
            if wanted and self.data is None:
                raise ValueError(f"{need}; give `data`")
        if self.batchnorm == "put-back" and self.recovery is None:
            raise ValueError("batchnorm put-back is for training; leave recovery in, or put-back out")
        if self.recovery is not None and self.recovery.epochs is not None and self.recovery.epochs < self.rounds:
            raise ValueError(f"{self.rounds} rounds need at least as many epochs; they are {self.recovery.epochs}")
        if self.max_drop is not None and self.validation is None:
            raise ValueError("max_drop needs samples to measure accuracy with; give `validate`")
        return self

    def digest(self) -> str:
        """SHA-256 over every field but where results are kept; the order of fields in a file does not matter."""
        fields = self.model_dump(mode="json", exclude=set(PLACES))
        return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def make_calibration(ranges: str | None, exclude: Sequence[str] | None) -> Calibration:
    """From the command line; BadInput in one line."""
    fields = {"ranges": ranges, "exclude": exclude}
    try:
        return Calibration.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        raise BadInput(f"command line: {describe(error.errors()[0], {'ranges': '--ranges'})}") from error


def load_recipe(path: Path) -> Recipe:
    """Read a YAML recipe; relative paths in it start at its own folder. BadInput has one line for each error."""
    try:
        fields = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise BadInput(f"{path}: the recipe cannot be read: {reason}") from error
    except yaml.YAMLError as error:
        # not its whole text: that shows the line, and a database's URL in it may hold a password
        raise BadInput(f"{path}: not YAML: {yaml_problem(error)}") from error
    if not isinstance(fields, dict) or not all(isinstance(name, str) for name in fields):
        raise BadInput(f"{path}: a recipe is a list of `field: value` lines; at least model, goal and output")
    return make_recipe(fields, base=path.parent, source=str(path))


def yaml_problem(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return "it holds characters that YAML does not have"
    mark = error.problem_mark
    return f"{error.problem} (line {mark.line + 1}, column {mark.column + 1})"


def make_recipe(
    fields: Mapping[str, Any], *, base: Path, source: str, names: Mapping[str, str] | None = None
) -> Recipe:
    """Validate `fields`, relative paths starting at `base`.

    BadInput has one line for each error: `source`, the field (as `names` calls it), and what is wrong with it.
    """
    resolved = {
        name: resolve(value, base) if name in PATHS and isinstance(value, (str, Path)) else value
        for name, value in fields.items()
    }
    try:
        return Recipe.model_validate(resolved)
    except ValidationError as error:
        lines: dict[str, str] = {}
        for detail in error.errors():
            lines.setdefault(field_of(detail), describe(detail, names or {}))  # a union complains once for each member
        raise BadInput("\n".join(f"{source}: {line}" for line in lines.values())) from error
    except BadInput as error:  # from a dataclass of another package, which checks itself
        raise BadInput(f"{source}: {error}") from error


def resolve(value: str | Path, base: Path) -> str:
    """A path made absolute; URLs and `module:callable` as they are; the file of `file.py:callable` made absolute."""
    text = str(value)
    if "://" in text or not text:
        return text
    path, colon, name = text.rpartition(":")
    if colon and name.isidentifier() and not (base / text).exists():
        return f"{absolute(path, base)}:{name}" if path.endswith(".py") else text
    return absolute(text, base)


def absolute(path: str, base: Path) -> str:
    return str((base / Path(path).expanduser()).absolute())


def one_of(known: Collection[str], name: str) -> str:
    if name not in known:
        raise ValueError(f"{name!r} is unknown; known are {', '.join(known)}")
    return name


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def field_of(detail: ErrorDetails) -> str:
    """The field's place in the file: what pydantic calls it, without the union members that it tried."""
    members = ("int", "float", "tuple[", "constrained-", "function-")
    return ".".join(str(part) for part in detail["loc"] if not str(part).startswith(members))


def describe(detail: ErrorDetails, names: Mapping[str, str]) -> str:
    field = field_of(detail)
    shown = names.get(field, field)
    if detail["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        part, _, name = field.rpartition(".")
        known = KNOWN.get(part, [])
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
        return f"unknown field {field!r}; {hint}"
    if detail["type"] == "missing":
        return f"{shown} is missing"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if detail["type"] == "path_type":
        message = "should be a path"
    if detail["type"] == "value_error" or isinstance(detail["input"], (dict, BaseModel)):
        return f"{shown}: {message}" if shown else message
    return f"{shown}: {message} (it is {detail['input']!r})"


KNOWN: dict[str, list[str]] = {
    "": [field.alias or name for name, field in Recipe.model_fields.items()],
    "preprocessing": [field.name for field in dataclasses.fields(Preprocessing)],
    "regularisation": list(Regularisation.model_fields),
    "calibration": list(Calibration.model_fields),
    "recovery": [field.name for field in dataclasses.fields(RecoveryConfig)],
}


class UniqueKeyLoader(yaml.SafeLoader):  # type: ignore[misc]  # yaml carries no types
    """SafeLoader that refuses a field written twice, where YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key, (key_node, _) in zip(keys, node.value, strict=True):
            if isinstance(key, Hashable) and keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is written twice", key_node.start_mark)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping
