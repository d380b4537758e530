"""What is secret here stays here: nothing of the environment, no key and no password is in what leaves or is shown."""

import ast
import json
import os
from pathlib import Path
from typing import Any

import pytest

import targets
from pipeline.cli import main
from pipeline.recipe import load_recipe
from targets import registry
from targets.connection import connect
from targets.errors import BadInput, CutbackError
from targets.profiles.database import Database
from targets.profiles.export import export
from targets.profiles.rows import rows_of
from targets.profiles.search import Wanted
from targets.profiles.store import ProfileStore
from targets.target import Target, find_target
from tests.targets.models import residual, saved

SECRET = "hunter2-9e107d9d"
VARIABLES = ("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "CUTBACK_DB", "PGPASSWORD", "SSH_AUTH_SOCK", "OMP_SECRET")
REPOSITORY = Path(targets.__file__).parents[1]

# All that is read of the environment, and by whom; "*" passes it on whole, to a process of the same user. The program
# in targets/bootstrap.py is text: it reads XDG_CACHE_HOME, over there.
READ = {
    "targets/lease.py": {"CUTBACK_HOLDER", "VARIABLE"},
    "targets/profiles/database.py": {"VARIABLE"},
    "targets/registry.py": {"VARIABLE"},
    "targets/runtimes/onnxruntime.py": {"ORT_DISABLE_TELEMETRY"},
    "targets/runtimes/tensorrt.py": {"XDG_CACHE_HOME", "HOME"},
    "targets/transports/dask.py": {"*"},
    "targets/transports/local.py": {"*"},
    "targets/transports/ssh.py": {"*"},
    "targets/workers.py": {"name"},  # of KEPT_VARIABLES
    "pipeline/cli/main.py": {"CUTBACK_TRACEBACK"},
    "pipeline/graph/execute.py": {"ORT_DISABLE_TELEMETRY"},
    "pipeline/packs/ort_advice.py": {"ORT_DISABLE_TELEMETRY"},
}


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, f"postgresql://me:{SECRET}@db.example/x")


def environment_reads(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    inside: set[int] = set()
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            inside.add(id(node.value))
            found.add(name_of(node.slice))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.environ.setdefault"):
            assert isinstance(node.func, ast.Attribute)
            inside.add(id(node.func.value))
            found.add(name_of(node.args[0]))
        elif isinstance(node, ast.Compare):
            inside |= {id(each) for each in node.comparators if ast.unparse(each) == "os.environ"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "os.environ" and id(node) not in inside:
            found.add("*")
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "os.getenv":
            found.add(name_of(node.args[0]))
    return found


def name_of(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ast.unparse(node)


def test_what_is_read_of_the_environment_is_listed_here() -> None:
    found: dict[str, set[str]] = {}
    for package in ("pipeline", "calibration", "targets"):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            reads = environment_reads(path)
            if reads:
                found[path.relative_to(REPOSITORY).as_posix()] = reads
    assert found == READ


def test_a_worker_gets_nothing_of_the_environment_that_it_does_not_need(
    secrets: None, model: Path, tmp_path: Path
) -> None:
    with connect(Target("local")) as device:
        device.describe(model)  # its worker stays
        agent = device._link.channel.process.pid
        children = Path(f"/proc/{agent}/task/{agent}/children")
        if not children.exists():
            pytest.skip("this kernel does not list a process's children")
        (worker,) = children.read_text().split()
        assert SECRET not in Path(f"/proc/{worker}/environ").read_bytes().decode(errors="replace")
        for command in (agent, worker):
            assert SECRET not in Path(f"/proc/{command}/cmdline").read_bytes().decode(errors="replace")


def test_no_answer_no_row_and_no_export_holds_anything_of_it(secrets: None, model: Path, tmp_path: Path) -> None:
    told: list[str] = []
    with connect(Target("local"), tell=told.append) as device:
        profile = device.profile(model, runs=3)
        session = device.time(model, quick=True)
    store = ProfileStore(str(tmp_path / "profiles.sqlite"))
    store.add(rows_of(profile, "session"))
    export(store.database, tmp_path / "all.jsonl", Wanted())
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path != model]
    shown = json.dumps([profile.device.as_dict(), session.as_dict(), told, repr(store.database.name)]).encode()
    assert len(written) >= 2
    assert all(SECRET.encode() not in each for each in (*written, shown))
    assert all(name.encode() not in each for name in VARIABLES for each in (*written, shown))


def test_no_failure_over_there_tells_anything_of_it(secrets: None, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with connect(Target("local")) as device, pytest.raises(CutbackError) as caught:
        device.time(tmp_path / "broken.onnx")
    assert SECRET not in str(caught.value)
    with pytest.raises(CutbackError) as caught, connect(Target("local", python="/bin/false")):
        pass
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("database", [f"postgresql://me:{SECRET}@nowhere.invalid/x", f"mysql://me:{SECRET}@host/x"])
def test_a_database_that_cannot_be_used_is_named_without_its_password(
    database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("psycopg", reason="the driver is not installed: pip install 'cutback[postgresql]'")
    assert main(["db", "--db", database]) == 2
    monkeypatch.setenv("CUTBACK_DB", database)
    monkeypatch.setenv("CUTBACK_TRACEBACK", "0")
    assert main(["db"]) == 2
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err
    assert "***" in said.err


def test_a_password_with_signs_in_it_is_masked_as_it_is_written_and_as_it_is_read() -> None:
    pytest.importorskip("psycopg", reason="the driver is not installed: pip install 'cutback[postgresql]'")
    from targets.profiles.database import url_of, without_secrets

    url = url_of("postgresql://me:p%40ss%2Fword%20x@host/name")
    for form in ("p@ss/word x", "p%40ss%2Fword%20x", "p%40ss%2Fword+x"):
        assert without_secrets(f"cannot reach {form} there", url) == "cannot reach *** there"
    with pytest.raises(BadInput) as caught:
        Database("postgresql://me:p%40ss%2Fword@nowhere.invalid/name")
    assert "ss%2Fword" not in str(caught.value)
    assert "ss/word" not in str(caught.value)


@pytest.mark.parametrize(
    "address", [f"me:{SECRET}@host", f"ssh://me:{SECRET}@host:22", f"tls://me:{SECRET}@host:8786", f":{SECRET}@host"]
)
def test_an_address_with_a_password_is_refused_without_repeating_it(address: str) -> None:
    for make in (
        lambda: Target("x", "ssh", address=address),
        lambda: find_target(f"local:threads=2,address={address}"),
    ):
        with pytest.raises(BadInput, match="holds no password") as caught:
            make()
        assert SECRET not in str(caught.value)


def test_an_address_with_a_password_in_a_file_is_refused_without_repeating_it(tmp_path: Path) -> None:
    text = f'[targets.pi]\ntransport = "ssh"\naddress = "me:{SECRET}@pi"\n'
    with pytest.raises(BadInput, match=r"targets\.pi: an address holds no password") as caught:
        registry.parse(text, tmp_path / "targets.toml")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["", "host", "me@host", "ssh://me@host:22", "me@[fe80::1%eth0]", "192.168.1.2:5555", "tls://10.0.0.1:8786"],
)
def test_an_address_without_one_is_taken(address: str) -> None:
    assert Target("x", "ssh", address=address).address == address


def test_a_recipe_that_is_no_yaml_is_refused_without_its_lines(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(f'model: m.onnx\ndb: "postgresql://me:{SECRET}@host/x" oops: [\n')
    with pytest.raises(BadInput, match=r"line 2") as caught:
        load_recipe(tmp_path / "recipe.yaml")
    assert SECRET not in str(caught.value)


@pytest.mark.slow
def test_a_bundle_holds_nothing_of_the_database_it_was_made_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in VARIABLES:
        if name != "CUTBACK_DB":
            monkeypatch.setenv(name, SECRET)
    model = saved(residual(), tmp_path / "m.onnx")
    bundle = tmp_path / "bundle"
    command = ["compress", str(model), "--goal", "params<=0.8x", "--quick", "--sessions", "2", "-o", str(bundle)]
    assert main([*command, "--db", str(tmp_path / f"{SECRET}.sqlite")]) == 0
    written = [path for path in bundle.rglob("*") if path.is_file()]
    assert {"manifest.json", "report.html"} <= {path.name for path in written}
    holders = [path.name for path in written if SECRET.encode() in path.read_bytes()]
    assert holders == []
    said: Any = capsys.readouterr()
    assert SECRET not in said.out + said.err
    assert os.environ["GITHUB_TOKEN"] == SECRET
