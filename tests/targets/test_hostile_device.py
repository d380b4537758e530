"""A device that means harm, or is broken: one line that names it, within seconds, and nothing left behind here."""

import copy
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from targets import channel
from targets.connection import connect
from targets.errors import TargetError
from tests.targets.hostile import NAME, Honest, Steps, drive, plan_of, result, sent, write_plan
from tests.targets.models import residual, saved

ESCAPE = "\x1b]0;owned\x07\x1b[2J"


def refused(plan: Any, verb: str, folder: Path, here: Path) -> str:
    """The line with which it is refused."""
    model = saved(residual(), folder / "m.onnx")
    with pytest.raises(TargetError) as caught, connect(write_plan(plan, folder / "plan.json")) as device:
        drive(device, verb, model, here / "engine")
    return line_of(caught.value)


def line_of(failure: BaseException) -> str:
    line = str(failure)
    assert line.isprintable()
    assert len(line) < 1000
    assert NAME in line
    return line


def not_refused(plan: Any, verb: str, names: Collection[str], folder: Path, here: Path) -> list[str]:
    """Of answers that are given one after the other, those that were taken for sense."""
    model = saved(residual(), folder / "m.onnx")
    taken = []
    with connect(write_plan(plan, folder / "plan.json")) as device:
        for name in names:
            try:
                drive(device, verb, model, here / "engine")
            except TargetError as failure:
                if "makes no sense" in line_of(failure):
                    continue
            taken.append(name)
    return taken


PROTOCOL: dict[str, tuple[str, Steps]] = {
    "never starts": ("start", [("hang", "")]),
    "greets first": ("start", [("say", f"Welcome! {ESCAPE}\n"), ("hang", "")]),
    "greets without end": ("start", [("forever", "x" * 4096)]),
    "greets with a number": ("start", [("say", "7\n"), ("hang", "")]),
    "takes no agent": ("start", [("say", '{"have":false}\n'), ("hang", "")]),
    "says why in megabytes": ("start", [("say", json.dumps({"error": ESCAPE + "x" * 10_000}) + "\n")]),
    "says why in a mapping": ("start", [("say", json.dumps({"error": {"a": ESCAPE}}) + "\n")]),
    "complains without end and ends": ("start", [*[("complain", f"{ESCAPE}\n" * 5000)] * 50, ("exit", "3")]),
    "closes its output and lives": ("start", [("close", ""), ("hang", "")]),
    "ends": ("device", [("exit", "0")]),
    "ends in the middle": ("device", [("say", '{"id":$ID,"res'), ("exit", "0")]),
    "closes its output, later": ("device", [("close", ""), ("hang", "")]),
    "never answers": ("device", [("hang", "")]),
    "a line without end": ("device", [("forever", "[" + "1," * 50_000)]),
    "no JSON": ("device", [("say", f"{ESCAPE}\n")]),
    "JSON in another alphabet": ("device", [("say", "\xff\xfe\n")]),
    "a list": ("device", [("say", "[1]\n")]),
    "a text": ("device", [("say", '"x"\n')]),
    "deeper than the stack": ("device", [("say", "[" * 200_000 + "]" * 200_000 + "\n")]),
    "deeper than ours": ("device", [("say", '{"id":$ID,"result":' + "[" * 40 + "]" * 40 + "}\n")]),
    "millions of lists": ("device", [("say", '{"id":$ID,"result":[' + "[]," * 5_000_000 + "[]]}\n")]),
    "not a number": ("device", [("say", '{"id":$ID,"result":NaN}\n')]),
    "an infinite number": ("device", [("say", '{"id":$ID,"result":1e999}\n')]),
    "a number of 5000 digits": ("device", [("say", '{"id":$ID,"result":' + "9" * 5000 + "}\n")]),
    "events without end": ("device", [("forever", '{"id":$ID,"event":{"alive":true}}\n' * 100)]),
    "events of megabytes": ("time", [("forever", '{"id":$ID,"event":{"waiting_for":"' + "x" * 60_000 + '"}}\n')]),
    "answers to nobody": ("time", [("forever", '{"id":77,"result":1}\n' * 100)]),
    "answers to all": ("time", [("forever", '{"id":1,"result":1}\n' * 100)]),
    "answers to true": ("device", [("say", '{"id":true,"result":1}\n')]),
    "answers to lists": ("time", [("forever", '{"id":[1],"result":1}\n' * 100)]),
    "a file nobody asked for": ("device", [("say", '{"id":$ID,"payload":10}\n0123456789')]),
    "a file of all there is": ("fetch", [("say", '{"id":$ID,"payload":4611686018427387904}\n'), ("hang", "")]),
    "a file of less than nothing": ("fetch", [("say", '{"id":$ID,"payload":-1}\n')]),
    "a file of true bytes": ("fetch", [("say", '{"id":$ID,"payload":true}\nx')]),
    "a file for nobody": ("fetch", [("say", '{"id":{},"payload":1}\nx')]),
    "a file that ends early": ("fetch", [("say", '{"id":$ID,"payload":100000}\nx'), ("exit", "0")]),
    "a file that stops": ("fetch", [("say", '{"id":$ID,"payload":100000}\nx'), ("hang", "")]),
    "two files": ("fetch", [*[("say", '{"id":$ID,"payload":1}\nx')] * 2]),
    "no file": ("fetch", [result({"sha256": "0" * 64})]),
    "a damaged file": ("fetch", [("say", '{"id":$ID,"payload":1}\nx'), result({"sha256": "0" * 64})]),
    "a file without a hash": ("fetch", [("say", '{"id":$ID,"payload":1}\nx'), result({})]),
    "a file with a list for a hash": ("fetch", [("say", '{"id":$ID,"payload":1}\nx'), result({"sha256": []})]),
    "a folder that is a list": ("session", [result({"folder": ["x"]})]),
    "no folder": ("session", [result([])]),
    "a path that is a number": ("have", [result({"path": 7})]),
    "no path": ("have", [result({})]),
}  # fmt: skip


@pytest.mark.parametrize("name", PROTOCOL)
def test_what_breaks_the_protocol_is_one_line(honest: Honest, impatient: Path, tmp_path: Path, name: str) -> None:
    verb, steps = PROTOCOL[name]
    refused(plan_of(honest, verb, steps), verb, tmp_path, impatient)


def test_a_file_that_trickles_is_given_up(honest: Honest, impatient: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(channel, "SLOWEST_BYTES_PER_S", 1e12)
    steps = [("say", '{"id":$ID,"payload":4000000000}\n'), ("forever", "x")]
    assert "so slowly" in refused(plan_of(honest, "fetch", steps), "fetch", tmp_path, impatient)


ERRORS: dict[str, Any] = {
    "a number": 7,
    "nothing": {},
    "numbers": {"kind": 7, "message": 8},
    "a list for a kind": {"kind": [], "message": "x"},
    "megabytes": {"kind": "target", "message": ESCAPE + "x" * 60_000},
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_of_any_form_is_one_line(honest: Honest, impatient: Path, tmp_path: Path, name: str) -> None:
    plan = plan_of(honest, "device", [("say", json.dumps({"id": 2, "error": ERRORS[name]}) + "\n")])
    with pytest.raises(TargetError) as caught, connect(write_plan(plan, tmp_path / "plan.json")):
        pass
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


Change = Callable[[Any], None]


def put(*path: Any) -> Change:
    """Sets what lies at the path, of which the last is the value; `DROP` takes it away."""

    def change(told: Any) -> None:
        *way, name, value = path
        for part in way:
            told = told[part]
        if value is DROP:
            del told[name]
        else:
            told[name] = value

    return change


DROP = object()
NESTED: Any = {"a": {"b": {"c": {"d": {"e": {}}}}}}

WRONG: dict[str, tuple[str, Change]] = {
    **{f"no {part}": ("device", put(part, DROP)) for part in ("device_class", "stack", "regime", "observed", "reads")},
    "stack is a list": ("device", put("stack", [])),
    "emulated is a number": ("device", put("emulated", 0)),
    "emulated is missing": ("device", put("emulated", DROP)),
    "a number beyond all": ("device", put("device_class", "cores", 10**30)),
    "a text of megabytes": ("device", put("device_class", "cpu", "x" * 9000)),
    "a thousand things": ("device", put("observed", {f"n{number}": number for number in range(6000)})),
    "a list of thousands": ("device", put("device_class", "features", ["x"] * 6000)),
    "a name of megabytes": ("device", put("observed", {"x" * 9000: 1})),
    "nested": ("device", put("regime", NESTED)),
    "reads true": ("device", put("reads", "opset", True)),
    "reads nothing": ("device", put("reads", {})),
    "reads below nothing": ("device", put("reads", "ir", -1)),
    "no samples": ("time", put("samples_ns", [])),
    "samples missing": ("time", put("samples_ns", DROP)),
    "samples below nothing": ("time", put("samples_ns", [5, -5])),
    "samples that took no time": ("time", put("samples_ns", [0])),
    "samples of years": ("time", put("samples_ns", [10**18])),
    "samples in halves": ("time", put("samples_ns", [5.5])),
    "samples that are true": ("time", put("samples_ns", [True, True])),
    "samples that are texts": ("time", put("samples_ns", ["5"])),
    "samples in a text": ("time", put("samples_ns", "555")),
    "a million samples": ("time", put("samples_ns", [5] * 1_000_000)),
    "warmed up true": ("time", put("warm_ups", True)),
    "warmed up for less than nothing": ("time", put("warm_ups", -1)),
    "doubts in a text": ("time", put("doubts", "doubt")),
    "doubts without end": ("time", put("doubts", ["doubt"] * 1000)),
    "a doubt of pages": ("time", put("doubts", ["x" * 2000])),
    "voided by numbers": ("time", put("voided", [1])),
    "another protocol": ("time", put("protocol", "honest")),
    "a probe below nothing": ("time", put("probes_ns", [-1])),
    "inputs in a mapping": ("describe", lambda told: told.__setitem__(0, [])),
    "an input of objects": ("describe", put(0, "dtype", "object")),
    "an input of a list": ("describe", put(0, "dtype", [])),
    "an input of no name": ("describe", put(0, "name", 7)),
    "an input of true dimensions": ("describe", put(0, "shape", [True])),
    "an input of negative dimensions": ("describe", put(0, "shape", [-1])),
    "an input of dimensions beyond all": ("describe", put(0, "shape", [10**30])),
    "two inputs of one name": ("describe", lambda told: told.append(copy.deepcopy(told[0]))),
    "inputs without end": ("describe", lambda told: told.extend([told[0]] * 2000)),
    "kernels in a text": ("profile", put("kernels", "x")),
    "a kernel that is a list": ("profile", put("kernels", 0, [])),
    "a kernel of no name": ("profile", put("kernels", 0, "name", None)),
    "a kernel with a name of megabytes": ("profile", put("kernels", 0, "name", "x" * 9000)),
    "a kernel of fewer samples": ("profile", lambda told: told["kernels"][0]["samples_ns"].pop()),
    "a kernel below nothing": ("profile", put("kernels", 0, "samples_ns", 0, -1)),
    "a kernel of shapes that are texts": ("profile", put("kernels", 0, "output_shapes", ["x"])),
    "a kernel of shapes beyond all": ("profile", put("kernels", 0, "output_shapes", [[10**30]])),
    "a gauge that is true": ("profile", put("gauge_ns", [True])),
    "a stream that is a text": ("profile", put("stream_ns", "fast")),
    "a stream of no time at all": ("profile", put("stream_ns", [0])),
    "no gauge": ("profile", put("gauge_ns", DROP)),
    "no end to end": ("profile", put("end_to_end", DROP)),
    "end to end without samples": ("profile", put("end_to_end", "samples_ns", [])),
}


@pytest.mark.parametrize("verb", ["describe", "time", "profile"])
def test_an_answer_of_the_wrong_form_is_one_line(honest: Honest, impatient: Path, tmp_path: Path, verb: str) -> None:
    names = [name for name, (of, _) in WRONG.items() if of == verb]
    plan = {
        **plan_of(honest, "fetch", sent(honest.graph)),
        verb: {"in turn": [[wrong(honest, each)] for each in names]},
    }
    assert not_refused(plan, verb, names, tmp_path, impatient) == []


@pytest.mark.parametrize("name", [name for name, (verb, _) in WRONG.items() if verb == "device"])
def test_a_device_of_the_wrong_form_is_one_line(honest: Honest, impatient: Path, tmp_path: Path, name: str) -> None:
    plan = plan_of(honest, "device", [wrong(honest, name)])
    assert "makes no sense" in refused(plan, "device", tmp_path, impatient)


def wrong(honest: Honest, name: str) -> tuple[str, str]:
    verb, change = WRONG[name]
    told = copy.deepcopy(honest.results[verb])
    change(told)
    return result(told)


def one_after_the_other(honest: Honest, files: Mapping[str, bytes], folder: Path) -> Any:
    """The plan of a device whose every answer is honest, and whose files are these."""
    turns = []
    for number, data in enumerate(files.values()):
        (folder / f"file-{number}").write_bytes(data)
        turns.append(sent(folder / f"file-{number}"))
    return {**plan_of(honest, "fetch", []), "fetch": {"in turn": turns}}


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def member(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


class Harm:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("harmed"),)


NAMES = {"names.npy": member(np.array(["y"]))}
Y = np.ones((1, 6, 1, 1), np.float32)

OUTPUTS: dict[str, bytes] = {
    "nothing": b"",
    "no zip": b"PK\x03\x04 and then nothing",
    "cut short": npz(names=np.array(["y"]), t0=Y)[:-40],
    "cut in the middle": npz(names=np.array(["y"]), t0=Y)[:200],
    "packed": zipped({**NAMES, "t0.npy": header("(268435456,)") + bytes(1 << 26)}, zipfile.ZIP_DEFLATED),
    "names packed": zipped({"names.npy": member(np.array(["y" * 9])), "t0.npy": member(Y)}, zipfile.ZIP_DEFLATED),
    "a pickle": zipped({**NAMES, "t0.npy": header("()", "'|O'") + pickle.dumps(Harm())}),
    "a pickle for names": zipped({"names.npy": header("(1,)", "'|O'") + pickle.dumps([Harm()]), "t0.npy": member(Y)}),
    "a bare pickle": pickle.dumps(Harm()),
    "a shape beyond the file": zipped({**NAMES, "t0.npy": header("(1000000000000,)") + bytes(4)}),
    "a shape below the file": zipped({**NAMES, "t0.npy": header("(1,)") + bytes(4000)}),
    "a negative shape": zipped({**NAMES, "t0.npy": header("(-1, -1)") + bytes(4)}),
    "a shape that overflows": zipped({**NAMES, "t0.npy": header("(4294967296, 4294967296, 0)")}),
    "a shape of 100 axes": zipped({**NAMES, "t0.npy": header("(" + "1," * 100 + ")") + bytes(4)}),
    "a shape that is code": zipped({**NAMES, "t0.npy": header("__import__('os').mkdir('harmed')") + bytes(4)}),
    "a header without end": zipped({**NAMES, "t0.npy": header("(" + "1," * 20_000 + ")") + bytes(4)}),
    "a header in a header": zipped({**NAMES, "t0.npy": header("-" * 3000 + "1") + bytes(4)}),
    "structures": zipped({**NAMES, "t0.npy": header("(1,)", "[('a', '<f4'), ('b', '|O')]") + bytes(12)}),
    "the other byte order": zipped({**NAMES, "t0.npy": member(Y.astype(">f4"))}),
    "texts": npz(names=np.array(["y"]), t0=np.array(["x"])),
    "texts beyond all": zipped({"names.npy": header("(1,)", "'<U1'") + b"\xff\xff\xff\xff", "t0.npy": member(Y)}),
    "another name": npz(names=np.array(["z"]), t0=Y),
    "a path for a name": npz(names=np.array(["../../harmed"]), t0=Y),
    "two of a name": npz(names=np.array(["y", "y"]), t0=Y, t1=Y),
    "no names": npz(t0=Y),
    "names in a table": npz(names=np.array([["y"]]), t0=Y),
    "one too few": npz(names=np.array(["y"])),
    "one too many": npz(names=np.array(["y"]), t0=Y, t1=Y),
    "a member elsewhere": zipped({**NAMES, "t0.npy": member(Y), "../../harmed": b"x"}),
}


def test_outputs_that_are_none_are_one_line(honest: Honest, impatient: Path, tmp_path: Path) -> None:
    plan = one_after_the_other(honest, OUTPUTS, tmp_path)
    assert not_refused(plan, "run", OUTPUTS, tmp_path, impatient) == []


def overlapping() -> bytes:
    """A zip whose every entry is the same data: each is as large as the file, all together are not."""
    whole = bytearray(npz(names=np.array(["y"]), **{f"t{number}": Y for number in range(50)}))
    at = whole.index(b"PK\x01\x02")
    count = 0
    while whole[at : at + 4] == b"PK\x01\x02":
        name, extra, comment = struct.unpack("<HHH", whole[at + 28 : at + 34])
        whole[at + 20 : at + 28] = struct.pack("<II", len(whole), len(whole))
        at += 46 + name + extra + comment
        count += 1
    assert count == 51
    return bytes(whole)


def test_outputs_that_claim_more_than_their_file_are_refused(honest: Honest, impatient: Path, tmp_path: Path) -> None:
    (tmp_path / "outputs").write_bytes(overlapping())
    plan = plan_of(honest, "fetch", sent(tmp_path / "outputs"))
    assert "more than it can" in refused(plan, "run", tmp_path, impatient)


def graph_of(nodes: list[onnx.NodeProto], *initialisers: onnx.TensorProto) -> bytes:
    graph = helper.make_graph(nodes, "g", [], [], list(initialisers))
    return bytes(helper.make_model(graph).SerializeToString())


def bodies(depth: int) -> bytes:
    """A graph whose node holds a graph whose node holds a graph, on the bytes: no protobuf writes so deep."""

    def field(number: int, content: bytes) -> bytes:
        size, varint = len(content), bytearray()
        while True:
            varint.append((size & 0x7F) | (0x80 if size > 0x7F else 0))
            size >>= 7
            if not size:
                return bytes([*key(number << 3 | 2), *varint]) + content

    def key(value: int) -> bytes:
        return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80, value >> 7])

    graph = b""
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))
    return field(7, graph)


def circle() -> bytes:
    """Layout changes that read each other: no order to follow them in."""
    nodes = [
        helper.make_node("ReorderInput", [f"t{(number + 1) % 3}"], [f"t{number}"], f"n{number}") for number in range(3)
    ]
    return graph_of(nodes)


GRAPHS: dict[str, bytes] = {
    "no protobuf": b"\xff" * 100,
    "cut short": graph_of([helper.make_node("Relu", ["x"], ["y"], "n" * 100)])[:-50],
    "millions of nodes": b"\x3a\x80\x80\x80\x02" + b"\x0a\x00" * (1 << 21),
    "millions of dimensions": graph_of([], helper.make_tensor("w", 1, [0] * 2_500_000, [])),
    "a body in a body": bodies(60),
    "a circle": circle(),
    "a node of thousands": graph_of([helper.make_node("Sum", [f"x{n}" for n in range(5000)], ["y"], "n")]),
    "a name of megabytes": graph_of([helper.make_node("Relu", ["x"], ["y"], "n" * 1_000_000)]),
}


def test_a_graph_that_is_none_is_one_line(honest: Honest, impatient: Path, tmp_path: Path) -> None:
    plan = one_after_the_other(honest, GRAPHS, tmp_path)
    assert not_refused(plan, "profile", GRAPHS, tmp_path, impatient) == []


def test_a_weight_of_impossible_size_is_refused(honest: Honest, impatient: Path, tmp_path: Path) -> None:
    model = onnx.load(honest.graph, load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.dims[:] = [-5, 1 << 62]
    (tmp_path / "graph").write_bytes(model.SerializeToString())
    plan = plan_of(honest, "fetch", sent(tmp_path / "graph"))
    assert "dimension" in refused(plan, "profile", tmp_path, impatient)


def test_a_graph_does_not_make_the_host_read_its_own_files(honest: Honest, impatient: Path, tmp_path: Path) -> None:
    model = onnx.load(honest.graph, load_external_data=False)
    (tmp_path / "secret").write_bytes(b"the host's own" * 1000)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value=str(tmp_path / "secret"))
    (tmp_path / "graph").write_bytes(model.SerializeToString())
    os.utime(tmp_path / "secret", ns=(0, 0))  # older than its change: the next read is noted
    plan = plan_of(honest, "fetch", sent(tmp_path / "graph"))
    source = saved(residual(), tmp_path / "m.onnx")
    with connect(write_plan(plan, tmp_path / "plan.json")) as device:
        assert device.profile(source, runs=3).kernels
    assert (tmp_path / "secret").stat().st_atime_ns == 0
    (tmp_path / "secret").read_bytes()
    if (tmp_path / "secret").stat().st_atime_ns == 0:
        pytest.skip("this file system notes no reading")


def test_what_a_terminal_would_obey_reaches_nobody(honest: Honest, impatient: Path, tmp_path: Path) -> None:
    told = copy.deepcopy(honest.results)
    told["device"]["device_class"]["cpu"] = ESCAPE
    told["time"]["doubts"] = [ESCAPE]
    lines: list[str] = []
    busy = ("say", json.dumps({"id": 0, "event": {"waiting_for": ESCAPE * 50}}).replace('"id": 0', '"id":$ID') + "\n")
    plan = plan_of(Honest(told, honest.outputs, honest.graph), "time", [busy, result(told["time"])])
    model = saved(residual(), tmp_path / "m.onnx")
    with connect(write_plan(plan, tmp_path / "plan.json"), tell=lines.append) as device:
        assert device.device.name.isprintable()
        assert all(doubt.isprintable() for doubt in device.time(model, quick=True).doubts)
    assert lines
    assert all(line.isprintable() and len(line) < 400 for line in lines)


def test_an_honest_device_is_believed(honest: Honest, impatient: Path, tmp_path: Path) -> None:
    model = saved(residual(), tmp_path / "m.onnx")
    for verb, path in (("run", honest.outputs), ("profile", honest.graph)):
        plan = plan_of(honest, "fetch", sent(path))
        with connect(write_plan(plan, tmp_path / "plan.json")) as device:
            assert drive(device, verb, model, impatient / "engine")
            assert drive(device, "describe", model, impatient / "engine")
            assert drive(device, "time", model, impatient / "engine")
