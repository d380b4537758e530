"""No command is made of a name or a path: what a shell reads is constant, here and on devices."""

import ast
import base64
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import targets
from targets.bootstrap import BOOTSTRAP
from targets.errors import BadInput
from targets.transports import TRANSPORTS, ssh

ROOT = Path(targets.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
STARTERS = ("Popen", "run", "call", "check_call", "check_output")
SHELLS = ("system", "popen", "getoutput", "getstatusoutput", "create_subprocess_shell")


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call, under the last part of its name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield name, node


def of_subprocess(node: ast.Call) -> bool:
    return ast.unparse(node.func).startswith("subprocess.")


def test_no_file_starts_a_shell() -> None:
    for path in FILES:
        for name, node in calls(path):
            own = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in (
                "os",
                "subprocess",
                "asyncio",
            )
            assert not (own and name in SHELLS), f"{path.name}:{node.lineno}"
            assert all(keyword.arg != "shell" for keyword in node.keywords), f"{path.name}:{node.lineno}"


def test_every_program_is_started_with_a_list() -> None:
    started = 0
    for path in FILES:
        for name, node in calls(path):
            if name in STARTERS and of_subprocess(node):
                started += 1
                assert not isinstance(node.args[0], ast.JoinedStr | ast.Constant), f"{path.name}:{node.lineno}"
    assert started >= 3


def test_what_a_devices_shell_reads_is_one_constant() -> None:
    commands = {ssh.command(destination)[-1] for destination in ("pi", "me@jetson", "ssh://me@10.0.0.1:2222")}
    assert commands == {ssh.COMMAND}
    tree = ast.parse((ROOT / "transports" / "ssh.py").read_text())
    made = {  # at the top of the file: before any target is known
        ast.unparse(node.targets[0]): {each.id for each in ast.walk(node.value) if isinstance(each, ast.Name)}
        for node in tree.body
        if isinstance(node, ast.Assign)
    }
    assert made["COMMAND"] == {"PYTHON"}
    assert made["PYTHON"] == {"PACKED"}
    assert made["PACKED"] == {"base64", "zlib", "BOOTSTRAP"}


def test_the_constant_is_text_that_no_shell_gives_a_meaning() -> None:
    before, program, after = ssh.COMMAND.split("'")
    assert before == "exec python3 -I -c "
    assert after == ""
    assert "\n" not in program
    assert program.isascii()
    packed = program.partition('b64decode("')[2].partition('"')[0]
    assert zlib.decompress(base64.b64decode(packed)).decode() == BOOTSTRAP


@pytest.mark.parametrize(
    "destination",
    [
        "", "-oProxyCommand=touch harmed", "-lroot", "host -oProxyCommand=x", "host;touch harmed", "$(touch harmed)",
        "`touch harmed`", "host\ntouch harmed", "host'", 'host"', "host|x", "host&x", "host>x", "host\\x", "host\0x",
        "höst", "~", "*",
    ],
)  # fmt: skip
def test_what_could_be_more_than_a_destination_is_refused(destination: str) -> None:
    with pytest.raises(BadInput, match=r"^[^\n]*is no destination for ssh[^\n]*$"):
        ssh.command(destination)


def test_nothing_can_follow_a_destination_and_none_is_an_option() -> None:
    command = ssh.command("me@host", config="a file with spaces; and more")
    assert command[-3:] == ["--", "me@host", ssh.COMMAND]
    assert command[command.index("-F") + 1] == "a file with spaces; and more"


def test_every_transport_is_looked_at_here() -> None:
    files = {f"targets.transports.{path.stem}" for path in FILES if path.parent.name == "transports"}
    assert set(TRANSPORTS.values()) <= files


def test_nothing_that_is_sent_can_become_code_here() -> None:
    harmful = ("eval", "exec", "loads", "load")
    modules = ("pickle", "marshal", "shelve", "yaml")
    for path in FILES:
        for name, node in calls(path):
            if isinstance(node.func, ast.Name):
                assert name not in harmful[:2], f"{path.name}:{node.lineno}"
            elif isinstance(node.func, ast.Attribute):
                assert ast.unparse(node.func.value) not in modules, f"{path.name}:{node.lineno}"
            assert all(
                keyword.arg != "allow_pickle" or ast.unparse(keyword.value) == "False" for keyword in node.keywords
            ), f"{path.name}:{node.lineno}"
