"""The targets that users name: where the files lie, what they may say, and how they are changed."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from targets import registry, registry_edit
from targets.errors import BadInput
from targets.target import BUILT_IN, Target, find_target, yours
from targets.target_fields import FIELDS

pytestmark = pytest.mark.usefixtures("project")

JETSON = """\
# Of the third rack.
[targets.jetson-lab-3]
transport = "ssh"
address = "me@jetson-lab-3"
config = "ssh/config"
runtime = "tensorrt"
precision = "int8"
threads = 4
regime = "locked"
python = "~/cutback/bin/python"
folder = "/var/cutback"

[targets.jetson-lab-3.options]
dla = 0
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_has_the_fields_of_a_target() -> None:
    assert {*FIELDS, "name", "options"} == {field.name for field in dataclasses.fields(Target)}


def test_a_target_of_the_projects_file_is_found_by_its_name(project: Path) -> None:
    write(project / "targets.toml", JETSON)
    assert find_target("jetson-lab-3") == Target(
        "jetson-lab-3", "ssh", "tensorrt", "int8", 4, "locked", {"dla": "0"}, "me@jetson-lab-3",
        str(project / "ssh" / "config"), "~/cutback/bin/python", folder="/var/cutback",
    )  # fmt: skip


def test_settings_change_a_named_target_as_they_change_a_built_in_one(project: Path) -> None:
    write(project / "targets.toml", JETSON)
    found = find_target("jetson-lab-3:threads=2,dla=1")
    assert (found.name, found.threads, found.options) == ("jetson-lab-3:threads=2,dla=1", 2, {"dla": "1"})
    assert found.address == "me@jetson-lab-3"


def test_the_file_is_looked_for_upwards_as_far_as_the_repository(project: Path, monkeypatch) -> None:
    write(project.parent / "targets.toml", "[targets.outside]\n")
    below = project / "some" / "folder"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert registry.project_file() is None
    mine = write(project / "targets.toml", "[targets.inside]\n")
    assert registry.project_file() == mine
    assert [target.name for target, _ in yours()] == ["inside"]


def test_the_projects_target_comes_before_the_users_of_the_same_name(project: Path) -> None:
    own = write(registry.user_file(), '[targets.pi]\naddress = "mine"\n[targets.phone]\n')
    shared = write(project / "targets.toml", '[targets.pi]\naddress = "shared"\n')
    assert [(target.name, target.address, file) for target, file in yours()] == [
        ("pi", "shared", str(shared)),
        ("phone", "", str(own)),
    ]


def test_a_variable_names_the_projects_file(project: Path, tmp_path: Path, monkeypatch) -> None:
    write(project / "targets.toml", "[targets.here]\n")
    monkeypatch.setenv("CUTBACK_TARGETS", str(write(tmp_path / "lab.toml", "[targets.there]\n")))
    assert [target.name for target, _ in yours()] == ["there"]
    monkeypatch.setenv("CUTBACK_TARGETS", str(tmp_path / "gone.toml"))
    with pytest.raises(BadInput, match=r"gone.toml is not there \(CUTBACK_TARGETS names it\)"):
        yours()


def test_a_file_of_another_user_is_trusted_only_by_name(project: Path, monkeypatch) -> None:
    path = write(project / "targets.toml", "[targets.pi]\n")
    if os.getuid() == 0:
        os.chown(path, 4242, 4242)
    else:
        monkeypatch.setattr("os.getuid", lambda: 4242)
    with pytest.raises(BadInput, match="belongs to another user"):
        find_target("pi")
    assert find_target("local") == Target("local")  # needs no file
    monkeypatch.setenv("CUTBACK_TARGETS", str(path))
    assert find_target("pi") == Target("pi")


def test_a_built_in_target_is_found_though_the_file_is_broken(project: Path) -> None:
    write(project / "targets.toml", "[targets")
    assert find_target("local") == Target("local")
    with pytest.raises(BadInput, match="not TOML"):
        find_target("pi")


def test_an_unknown_name_lists_the_known_ones_and_the_close_one(project: Path) -> None:
    write(project / "targets.toml", JETSON)
    with pytest.raises(BadInput, match=r"did you mean 'jetson-lab-3'\? Known targets: local, .*, jetson-lab-3\."):
        find_target("jetson-lab-4")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[targets", "not TOML"),
        ("[targets.a]\n[targets.a]\n", "not TOML.*twice"),
        ("[target.a]\n", r"unknown key 'target'.*\[targets.NAME\]"),
        ("targets = 1\n", "targets is no table"),
        ("[targets]\na = 1\n", "targets.a is no table"),
        ('[targets."a b"]\n', "'a b' is no name.*letters, digits, - and _"),
        ("[targets.-a]\n", "'-a' is no name"),
        ("[targets.local]\n", "'local' is built in"),
        ("[targets.local-mnn]\n", "'local-mnn' is built in"),
        (
            '[targets.a]\nadress = "x"\n',
            r"targets.a: unknown key 'adress'; did you mean 'address'\? Known: transport, .*",
        ),
        ('[targets.a]\ntransport = "carrier-pigeon"\n', "targets.a: transport 'carrier-pigeon' is none of local, ssh"),
        ("[targets.a]\ntransport = []\n", "transport .. is none of local"),
        ('[targets.a]\nruntime = "tensort"\n', "did you mean 'tensorrt'"),
        ('[targets.a]\nprecision = "int4"\n', "'int4' is none of fp32"),
        ("[targets.a]\nthreads = 0\n", "threads=0 is no number of cores"),
        ("[targets.a]\nthreads = true\n", "threads=True is no number of cores"),
        ('[targets.a]\nthreads = "2"\n', "threads=2 is no number of cores"),
        ('[targets.a]\naddress = "a\\nb"\n', "address = .* is no line of text"),
        ("[targets.a]\npython = 3\n", "python = 3 is no line of text"),
        ("[targets.a]\noptions = 1\n", "options is no table"),
        ("[targets.a.options]\nfallback = false\n", "options.fallback is False. Give text or a whole number"),
    ],
)
def test_what_a_file_may_not_say_is_one_line_with_its_place(project: Path, text: str, says: str) -> None:
    path = write(project / "targets.toml", text)
    with pytest.raises(BadInput, match=says) as caught:
        yours()
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_refused(project: Path) -> None:
    (project / "targets.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="no UTF-8"):
        yours()


def test_what_was_added_is_read_back(project: Path) -> None:
    path = project / "new" / "targets.toml"
    fields: dict[str, Any] = {"transport": "ssh", "address": "me@board", "threads": 2, "options": {"provider": "cuda"}}
    assert registry_edit.add(path, "board", fields) == registry.Entry("board", path, fields)
    registry_edit.add(path, "other", {})
    assert list(registry.read(path)) == ["board", "other"]
    assert [file.name for file in path.parent.iterdir()] == ["targets.toml"]


def test_comments_and_order_outlive_additions_changes_and_removals(project: Path) -> None:
    before = "# The lab.\n\n[targets.z] # the oldest\naddress = 'z'   # on the desk\nthreads = 2\n\n[targets.a]\n"
    path = write(project / "targets.toml", before)
    registry_edit.add(path, "b", {"threads": 3})
    assert path.read_text().startswith(before)
    registry_edit.add(path, "z", {"address": "elsewhere"}, replace=True)
    assert path.read_text().startswith("# The lab.\n\n[targets.z] # the oldest\naddress = ")
    assert "# on the desk" in path.read_text()
    assert registry.read(path)["z"].fields == {"address": "elsewhere"}
    registry_edit.remove(path, "a")
    registry_edit.remove(path, "b")
    assert list(registry.read(path)) == ["z"]
    assert "# The lab." in path.read_text()


def test_a_name_is_not_written_over_unless_asked_for(project: Path) -> None:
    path = write(project / "targets.toml", JETSON)
    with pytest.raises(BadInput, match=r"has a target 'jetson-lab-3' already.*--replace"):
        registry_edit.add(path, "jetson-lab-3", {})
    assert path.read_text() == JETSON


@pytest.mark.parametrize(
    ("name", "fields", "says"),
    [
        ("local", {}, "is built in"),
        ("a:b", {}, "no name for a target"),
        ("-a", {}, "no name for a target"),
        ("pi", {"threads": 0}, "no number of cores"),
        ("pi", {"transport": "air"}, "'air' is none of"),
    ],
)
def test_what_could_not_be_read_is_not_written(project: Path, name: str, fields: dict[str, Any], says: str) -> None:
    path = project / "targets.toml"
    with pytest.raises(BadInput, match=says):
        registry_edit.add(path, name, fields)
    assert not path.exists()


def test_options_that_stay_keep_their_comments(project: Path) -> None:
    path = write(project / "targets.toml", "[targets.a]\n[targets.a.options]\nsm = '87' # Orin\ndla = '0'\n")
    registry_edit.add(path, "a", {"threads": 2, "options": {"sm": "89"}}, replace=True)
    assert registry.read(path)["a"].fields == {"threads": 2, "options": {"sm": "89"}}
    assert "# Orin" in path.read_text()


def test_dotted_keys_are_added_to(project: Path) -> None:
    path = write(project / "targets.toml", "targets.a.threads = 2\n")
    registry_edit.add(path, "b", {"threads": 3, "options": {"dla": "0"}})
    assert path.read_text().startswith("targets.a.threads = 2\n")
    assert list(registry.read(path)) == ["a", "b"]


def test_what_cannot_be_changed_without_harm_is_left_alone(project: Path) -> None:
    path = write(project / "targets.toml", "targets = { a = { threads = 2 } } # in one line\n")
    with pytest.raises(BadInput, match="Change it by hand"):
        registry_edit.add(path, "b", {"threads": 3})
    assert path.read_text() == "targets = { a = { threads = 2 } } # in one line\n"


def test_a_link_to_the_file_stays_a_link(project: Path, tmp_path: Path) -> None:
    real = write(tmp_path / "dotfiles" / "targets.toml", "[targets.a]\n")
    real.chmod(0o600)
    (project / "targets.toml").symlink_to(real)
    registry_edit.add(project / "targets.toml", "b", {})
    assert (project / "targets.toml").is_symlink()
    assert list(registry.read(real)) == ["a", "b"]
    assert real.stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_written_is_one_line(project: Path) -> None:
    write(project / "file", "")
    with pytest.raises(BadInput, match=r"Cannot write .*Choose --user or --project"):
        registry_edit.add(project / "file" / "targets.toml", "pi", {})


def test_no_target_that_is_built_in_has_a_precision() -> None:
    assert {target.precision for target in BUILT_IN} == {""}
