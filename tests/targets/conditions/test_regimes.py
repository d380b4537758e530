"""Locked and as-shipped: refused, doubted, and never mixed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from targets.conditions.regimes import check_regime, regime_doubts
from targets.connection import Connection, connect
from targets.errors import BadInput, TargetError
from targets.measurement import Measurement, Session, ratio
from targets.profiles.lines import digest_of
from targets.target import Target, find_target
from tests.targets.models import elementwise, saved
from tests.targets.test_measurement import DEVICE

FREE = {"held": False, "seen": "cpu0 has the governor ondemand", "how": "sudo jetson_clocks"}
HELD = {"held": True, "seen": "cpu0 has the governor performance", "how": "sudo jetson_clocks", "by_hand": True}
UNKNOWN = {"held": None, "seen": "the GPU does not tell", "how": "sudo nvidia-smi -lgc 1,1"}


def test_a_locked_target_with_free_clocks_is_refused_with_the_command_that_holds_them() -> None:
    with pytest.raises(TargetError) as refusal:
        check_regime("locked", FREE, "orin")
    assert str(refusal.value) == (
        "The regime of orin is locked, and its clocks are not held: cpu0 has the governor ondemand. "
        "Run there: sudo jetson_clocks"
    )
    for regime, lock in (("as-shipped", FREE), ("locked", HELD), ("locked", UNKNOWN), ("locked", {})):
        check_regime(regime, lock, "orin")


def test_what_cannot_be_read_and_what_looks_otherwise_are_doubts() -> None:
    (unread,) = regime_doubts("locked", UNKNOWN)
    assert unread.endswith("cannot be read on this device. To hold them, run there: sudo nvidia-smi -lgc 1,1")
    assert len(regime_doubts("locked", {"held": None, "seen": "", "how": ""})) == 1
    (otherwise,) = regime_doubts("as-shipped", HELD)
    assert otherwise.startswith(
        "Its clocks look held (cpu0 has the governor performance), and its regime is as-shipped"
    )
    delivered_so = {**HELD, "by_hand": False}  # many a server comes with this governor
    for regime, lock in (("locked", HELD), ("as-shipped", FREE), ("as-shipped", UNKNOWN), ("as-shipped", delivered_so)):
        assert regime_doubts(regime, lock) == []


def lying(monkeypatch: pytest.MonkeyPatch, lock: dict[str, Any]) -> None:
    """Every device then says this of its clocks, in place of what it read. Everything else is the real agent's."""
    ask = Connection._ask

    def asked(self: Connection, verb: str, *arguments: Any) -> Any:
        answer = ask(self, verb, *arguments)
        if verb == "device":
            return {**answer, "lock": lock}
        if verb == "time":
            return {**answer, "conditions": {"lock": lock}}
        return answer

    monkeypatch.setattr(Connection, "_ask", asked)


def test_a_connection_to_a_locked_target_with_free_clocks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lying(monkeypatch, FREE)
    with pytest.raises(TargetError, match="Run there: sudo jetson_clocks"), connect(find_target("local:regime=locked")):
        pass


def test_clocks_that_are_let_go_end_a_locked_measurement(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = saved(elementwise((1, 4)), tmp_path / "model.onnx")
    lying(monkeypatch, HELD)
    with connect(find_target("local:regime=locked")) as device:
        assert not any("Its clocks" in doubt for doubt in device.time(path, quick=True).doubts)
        lying(monkeypatch, FREE)
        with pytest.raises(TargetError, match="its clocks are not held"):
            device.time(path, quick=True)


def test_the_doubt_travels_with_every_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = saved(elementwise((1, 4)), tmp_path / "model.onnx")
    lying(monkeypatch, HELD)
    with connect(find_target("local")) as device:
        assert any(doubt.startswith("Its clocks look held") for doubt in device.time(path, quick=True).doubts)


def test_the_two_regimes_have_different_keys_and_are_never_compared() -> None:
    shipped = replace(DEVICE, regime={"threads": 1, "regime": "as-shipped"})
    locked = replace(DEVICE, regime={"threads": 1, "regime": "locked"})
    assert digest_of(shipped.regime) != digest_of(locked.regime)
    a, b = (Measurement((Session((100,), 1), Session((101,), 1)), device) for device in (shipped, locked))
    with pytest.raises(BadInput, match="their regime differs"):
        ratio(a, b)


def test_a_real_device_says_what_it_read_and_sessions_keep_it(connection: Connection, tmp_path: Path) -> None:
    session = connection.time(saved(elementwise((1, 4)), tmp_path / "model.onnx"), quick=True)
    assert set(connection.lock) == {"held", "seen", "how", "by_hand"}
    assert set(session.conditions.get("after", {})) == set(connection.conditions)
    assert Session.from_dict(json.loads(json.dumps(session.as_dict()))) == session


@pytest.mark.parametrize(
    "conditions",
    [[], "hot", {"throttled": [1]}, {"throttled": 7}, {"lock": "held"}, {"before": {"x": "y" * 70_000}}],
)
def test_conditions_of_another_form_are_no_session(conditions: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Session.from_dict({"samples_ns": [1], "warm_ups": 1, "conditions": conditions})


def test_a_session_from_before_conditions_were_kept_is_read() -> None:
    assert Session.from_dict({"samples_ns": [1], "warm_ups": 1}).conditions == {}


@pytest.mark.parametrize("regime", ["locked", "as-shipped"])
def test_the_regime_of_the_target_is_in_the_key(regime: str) -> None:
    with connect(Target("here", regime=regime)) as device:  # nothing here tells of its clocks, or it is refused
        assert device.device.regime["regime"] == regime


def test_a_doctor_shows_clocks_and_the_command_that_holds_them() -> None:
    from pipeline.cli.targets_tables import rows_of_conditions

    found = {"conditions": {"heat": {"temperature_c": 41.5, "throttled": 3}}, "lock": FREE}
    assert dict(rows_of_conditions(found)) == {
        "heat temperature_c": "41.5",
        "heat throttled": "3",
        "clocks": "free: cpu0 has the governor ondemand",
        "to hold them": "sudo jetson_clocks",
    }
    assert dict(rows_of_conditions({"conditions": None, "lock": None})) == {}
    unread = {"held": None, "seen": "", "how": ""}
    assert dict(rows_of_conditions({"conditions": {}, "lock": unread})) == {"clocks": "cannot be read"}
