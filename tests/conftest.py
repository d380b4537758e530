"""What holds for every test: one thread for numerics, no time limit on a generated example, a database of its own."""

import os
from collections.abc import Iterator
from pathlib import Path

# Two cores run two things at most; a pool of threads for each of numpy and torch makes small tests slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from tests.digits import Digits, make_digits

settings.register_profile("cutback", deadline=None)
settings.load_profile("cutback")


@pytest.fixture(scope="session", autouse=True)
def _own_profile_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the profile database of whoever runs it."""
    path: Path = tmp_path_factory.mktemp("profiles") / "profiles.sqlite"
    before = os.environ.get("CUTBACK_DB")
    os.environ["CUTBACK_DB"] = str(path)
    yield
    os.environ.pop("CUTBACK_DB")
    if before is not None:
        os.environ["CUTBACK_DB"] = before


@pytest.fixture(scope="session", autouse=True)
def _no_targets_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or changes the devices that whoever runs it has named."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.delenv("CUTBACK_TARGETS", raising=False)
        yield


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    """A trained network and its samples."""
    return make_digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, within a repository; its owner's own targets are in another folder."""
    folder = tmp_path / "project"
    (folder / ".git").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return folder
