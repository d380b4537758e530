import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from calibration.preprocessing import Preprocessing
from pipeline.recipe import Recipe, load_recipe, make_recipe
from pipeline.training.config import RecoveryConfig
from targets.errors import BadInput

LEAST = {"model": "net.onnx", "goal": "latency<=0.5x", "output": "out"}


def made(**fields: object) -> Recipe:
    return make_recipe({**LEAST, **fields}, base=Path("/base"), source="test")


def refused(**fields: object) -> str:
    with pytest.raises(BadInput) as caught:
        made(**fields)
    return str(caught.value)


def test_least_recipe_scores_by_weights_and_trains_nothing():
    recipe = made()
    assert (recipe.criterion, recipe.recovery, recipe.allocator, recipe.target) == ("l2", None, "exact", "local")


def test_data_brings_the_taylor_criterion_and_recovery():
    recipe = made(data="train.npz")
    assert recipe.criterion == "taylor-gate"
    assert recipe.recovery == RecoveryConfig()


def test_what_is_said_outweighs_what_data_decides():
    recipe = made(data="train.npz", criterion="l1", recovery=None)
    assert (recipe.criterion, recipe.recovery) == ("l1", None)


def test_a_file_is_read_with_its_paths_relative_to_itself(tmp_path):
    path = tmp_path / "recipes" / "half.yaml"
    path.parent.mkdir()
    path.write_text(
        "model: ../net.onnx\n"
        "goal: latency<=0.5x, params<=2M\n"
        "data: loader.py:train\n"
        "validate: my.package:test\n"
        "db: sqlite:///profiles.sqlite\n"
        "output: /elsewhere/out\n"
        "shapes: {image: [1, 3, 32, 32]}\n"
        "preprocessing: {resize: 256, crop: [224, 224], mean: 0.5, std: [0.2, 0.2, 0.3]}\n"
        "regularisation: {cost: latency, strength: 1e-3}\n"
        "recovery: {epochs: 3, augmentation: [flip], learning_rate: 1e-2}\n"
    )
    recipe = load_recipe(path)
    assert recipe.model == str(path.parent / ".." / "net.onnx")
    assert recipe.data == f"{path.parent / 'loader.py'}:train"
    assert recipe.validation == "my.package:test"
    assert recipe.db == "sqlite:///profiles.sqlite"
    assert recipe.output == Path("/elsewhere/out")
    assert recipe.shapes == {"image": (1, 3, 32, 32)}
    assert recipe.preprocessing == Preprocessing(resize=256, crop=(224, 224), mean=(0.5,), std=(0.2, 0.2, 0.3))
    assert recipe.regularisation.strength == 0.001
    assert recipe.recovery is not None
    assert (recipe.recovery.epochs, recipe.recovery.augmentation) == (3, ("flip",))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"targt": "local"}, "test: unknown field 'targt'; did you mean 'target'?"),
        ({"recovery": {"epoch": 3}}, "unknown field 'recovery.epoch'; did you mean 'epochs'?"),
        ({"preprocessing": {"resise": 3}}, "unknown field 'preprocessing.resise'; did you mean 'resize'?"),
        ({"xyzzy": 1}, "unknown field 'xyzzy'; known are model, goal"),
        ({"goal": "fast"}, "goal 'fast': 'fast' is not a bound. Allowed:"),
        ({"shapes": {"x": [1, 0]}}, "test: shapes.x.1: should be greater than 0 (it is 0)"),
        ({"allocator": "best"}, "allocator: should be 'exact', 'uniform', 'threshold', 'knapsack',"),
        ({"allocator": "netadapt"}, "allocator netadapt needs data to try plans out on; give `data`"),
        ({"floor": 1.5}, "floor: should be less than or equal to 1 (it is 1.5)"),
        ({"floors": {"layer1*": 1.5}}, "floors.0.1: should be less than or equal to 1 (it is 1.5)"),
        ({"rounds": 0}, "rounds: should be greater than or equal to 1"),
        (
            {"rounds": 3, "data": "d.npz", "recovery": {"epochs": 2}},
            "3 rounds need at least as many epochs; they are 2",
        ),
        ({"sessions": 1}, "sessions: should be greater than or equal to 2"),
        ({"seed": 1.5}, "seed: should be a valid integer"),
        ({"max_drop": -1}, "max_drop: should be greater than or equal to 0"),
        ({"max_drop": 1}, "test: max_drop needs samples to measure accuracy with; give `validate`"),
        ({"criterion": "taylor"}, "criterion taylor needs data; give `data`"),
        ({"criterion": "magic"}, "test: criterion: 'magic' is unknown; known are l1, l2, random"),
        ({"normalisation": "l7"}, "test: normalisation: 'l7' is unknown; known are none, mean"),
        ({"recovery": {}}, "recovery needs data to train with; give `data`"),
        ({"absorb": True}, "absorb needs data to average over; give `data`"),
        ({"batchnorm": "put-back"}, "batchnorm put-back needs data to measure statistics on; give `data`"),
        ({"data": "d.npz", "recovery": None, "batchnorm": "put-back"}, "batchnorm put-back is for training"),
        ({"batchnorm": "keep"}, "batchnorm: should be 'auto', 'put-back' or 'as-given'"),
        ({"preprocessing": {"scale": -1}}, "scale -1.0 cannot divide pixels"),
        ({"preprocessing": {"resize": "big"}}, "preprocessing.resize: should be a valid integer"),
        ({"regularisation": {"cost": "money"}}, "regularisation.cost: should be 'none', 'flops'"),
        ({"data": "d.npz", "recovery": {"epochs": 0}}, "test: Recovery: epochs 0 cannot be used. Give at least 1."),
        ({"data": "d.npz", "recovery": {"epochs": "many"}}, "recovery.epochs: should be a valid integer"),
        ({"data": "d.npz", "recovery": {"augmentation": ["mix"]}}, "test: Augmentation 'mix' is unknown. Known: flip"),
        ({"output": 3}, "output: should be a path (it is 3)"),
    ],
)
def test_an_error_is_one_line_that_names_source_and_field(fields, says):
    message = refused(**fields)
    assert says in message
    assert "\n" not in message
    assert message.startswith("test: ")


def test_every_error_has_its_line():
    lines = refused(goal="fast", floor=2, targt=1).splitlines()
    assert len(lines) == 3
    assert all(line.startswith("test: ") for line in lines)


def test_missing_fields_are_named():
    with pytest.raises(BadInput) as caught:
        make_recipe({"goal": "latency<=0.5x"}, base=Path("/base"), source="here")
    assert str(caught.value).splitlines() == ["here: model is missing", "here: output is missing"]


def test_a_flag_is_named_as_it_was_written():
    with pytest.raises(BadInput, match=r"command line: --floor: should be"):
        make_recipe({**LEAST, "floor": 2}, base=Path("/base"), source="command line", names={"floor": "--floor"})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "a recipe is a list of"),
        (b"just text", "a recipe is a list of"),
        (b"- model", "a recipe is a list of"),
        (b"1: model", "a recipe is a list of"),
        (b"model: [", "not YAML"),
        (b"model: a\nmodel: b\n", "'model' is written twice"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"model: !!python/object/apply:os.getcwd []", "not YAML"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_line(tmp_path, content, says):
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        load_recipe(path)
    assert says in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_one_line(tmp_path):
    for path in (tmp_path, tmp_path / "missing.yaml"):
        with pytest.raises(BadInput, match="cannot be read"):
            load_recipe(path)


def test_a_recipe_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        made().goal = "latency<=0.1x"  # type: ignore[misc]


def test_the_digest_forgets_field_order_and_where_results_are_kept():
    fields = {**LEAST, "data": "d.npz", "recovery": {"epochs": 3, "momentum": 0.8}, "shapes": {"a": [1], "b": [2]}}
    turned = json.loads(json.dumps(fields))
    turned["recovery"] = dict(reversed(turned["recovery"].items()))
    turned["shapes"] = dict(reversed(turned["shapes"].items()))
    turned = dict(reversed(turned.items()))
    digest = made(**fields).digest()
    assert made(**turned).digest() == digest
    assert made(**{**fields, "output": "elsewhere", "db": "other.sqlite"}).digest() == digest


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"goal": "latency<=0.4x"}, {"recovery": {"epochs": 4}}, {"exclude": ["head*"]}, {"data": "e.npz"}],
)
def test_the_digest_sees_every_other_change(change):
    fields = {"data": "d.npz", "recovery": {"epochs": 3}}
    assert made(**{**fields, **change}).digest() != made(**fields).digest()
