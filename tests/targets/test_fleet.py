"""Devices behind a Dask scheduler. All of them are stand-ins on this machine; scheduler, workers and TLS are real."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from targets.connection import Connection, connect
from targets.errors import BadInput, LinkLost, TargetError
from targets.fleet import connect_fleet
from targets.target import Target
from targets.transports.dask_address import check_encrypted
from targets.upkeep import ask_about, clean
from tests.targets.fleet import CORES, SETTINGS, Fleet, write_certificates

pytest.importorskip("distributed", reason="Dask is not installed: pip install 'cutback[fleet]'")


@pytest.fixture(scope="module")
def fleet(small_fleet: Fleet) -> Fleet:
    return small_fleet


@pytest.fixture(scope="module")
def device(fleet: Fleet) -> Iterator[Connection]:
    with connect(fleet.target("small")) as opened:
        yield opened


def test_a_fleet_computes_what_this_machine_computes(device: Connection, connection: Connection, model: Path) -> None:
    feeds = {"x/in:0": np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)}
    np.testing.assert_array_equal(device.run(model, feeds)["y"], connection.run(model, feeds)["y"])


def test_a_profile_says_which_device_it_was_and_when(device: Connection, model: Path) -> None:
    assert device.devices() == ["small-1"]
    assert device.device.device_class["cores"] == CORES["small"]
    profile = device.profile(model, runs=2)
    assert profile.kernels
    observed = profile.device.observed
    assert (observed["worker"], observed["tag"]) == ("small-1", "small")
    assert observed["began_s"] < observed["ended_s"]


def test_an_empty_file_that_a_device_made_arrives(fleet: Fleet, model: Path) -> None:
    """MNN's operators are joined by their names: the graph it leaves is an empty file."""
    pytest.importorskip("MNN", reason="MNN is not installed: pip install 'cutback[mnn]'")
    with connect(replace(fleet.target("small"), runtime="mnn")) as opened:
        assert opened.profile(model, runs=2).kernels


def test_errors_name_the_device_and_the_users_own_file(device: Connection, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_text("This is no model.")
    with pytest.raises(BadInput, match=r"^small-1: [^\n]*broken\.onnx"):
        device.time(tmp_path / "broken.onnx")


def test_a_fleets_devices_are_looked_at_and_cleaned_with_no_runtime(fleet: Fleet, device: Connection) -> None:
    told = ask_about(fleet.target("small"))
    assert told.keeps
    assert told.sha256
    cleaned = clean(fleet.target("small"))
    assert cleaned is not None
    assert cleaned.removed > 0
    assert not list((fleet.folder / "small-1.cache" / "cutback" / "files").iterdir())


def test_a_tag_that_no_worker_has_is_one_line_that_names_those_there_are(fleet: Fleet) -> None:
    with (
        pytest.raises(LinkLost, match=r"^lab: no worker with the tag pi5 .* There are: small\. Start one with [^\n]*$"),
        connect(fleet.target("pi5")),
    ):
        pass


def test_who_has_no_certificate_of_the_fleets_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    write_certificates(tmp_path)
    (tmp_path / "other.yaml").write_text(SETTINGS.format(folder=tmp_path))
    stranger = replace(fleet.target("small"), config=str(tmp_path / "other.yaml"))
    with pytest.raises(TargetError, match=r"^lab: tls://\S+: no trusted connection [^\n]*$"), connect(stranger):
        pass


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("lab:8786", "no address of a Dask scheduler"),
        ("tcp://10.0.0.5:8786", "not encrypted"),
        ("tcp://lab:8786", "not encrypted"),
        ("ws://lab:8786", "no address"),
        ("tls://lab:8786; rm -r /", "no address"),
    ],
)
def test_what_others_could_read_is_refused(address: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        check_encrypted(address, None)


@pytest.mark.parametrize("address", ["tls://lab:8786", "tcp://127.0.0.1:8786", "tcp://[::1]:8786", "tcp://localhost:1"])
def test_what_is_encrypted_or_stays_here_is_used(address: str) -> None:
    check_encrypted(address, None)
    check_encrypted("tcp://10.0.0.5:8786", False)  # its owner's own word


def test_a_fleet_without_certificates_or_tag_says_what_is_missing(tmp_path: Path) -> None:
    for target, says in (
        (Target("lab", "dask", address="tls://127.0.0.1:1"), "names no tag"),
        (Target("lab", "dask", address="tls://127.0.0.1:1", tag="a"), "wants certificates"),
        (Target("lab", "dask", address="tcp://127.0.0.1:1", tag="a", config=str(tmp_path / "no")), "There is no file"),
    ):
        with pytest.raises((BadInput, TargetError), match=says), connect(target):
            pass
    with pytest.raises(BadInput, match="is one device"), connect_fleet(Target("local")):
        pass


def test_what_a_worker_runs_is_python_3_8_and_the_standard_library() -> None:
    path = Path(sys.modules[check_encrypted.__module__].__file__ or "").with_name("dask_task.py")
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names - sys.stdlib_module_names == {"distributed"}  # which is there, or nothing would run it
