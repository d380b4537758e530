"""What `--target` may say."""

import pytest

from targets.errors import BadInput
from targets.runtimes import RUNTIMES
from targets.target import BUILT_IN, Target, find_target


def test_there_is_a_local_target_for_every_runtime() -> None:
    assert {target.runtime for target in BUILT_IN} == set(RUNTIMES)
    assert find_target("local") == Target("local")


def test_settings_after_the_name_change_fields_and_give_options() -> None:
    found = find_target("local:threads=2,regime=locked,provider=CUDAExecutionProvider")
    assert found == Target(
        "local:threads=2,regime=locked,provider=CUDAExecutionProvider",
        threads=2,
        regime="locked",
        options={"provider": "CUDAExecutionProvider"},
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("moon", "no target 'moon'.*local"),
        ("moon:threads=2", "no target 'moon'"),
        ("local:threads", "'threads' is no FIELD=VALUE"),
        ("local:=2", "'=2' is no FIELD=VALUE"),
        ("local:threads=two", "threads=two is no number"),
        ("local:precision=int8", "a precision is the network's"),
        ("local:threads=0", "threads=0 is no number"),
        ("local:regime=cold", "'cold' is none of as-shipped"),
        ("local:runtime=onnxruntim", "none of onnxruntime.*did you mean 'onnxruntime'"),
        ("locl", "did you mean 'local'"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        find_target(text)
