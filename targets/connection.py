"""Connection: the one way in which everything above uses a device."""

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from targets import answers
from targets.channel import Event, digest
from targets.conditions.regimes import check_regime, regime_doubts
from targets.copies import Copies, Lower
from targets.device import Device
from targets.errors import BadInput, CutbackError, LinkLost, NoKernelTimes, TargetError
from targets.feeds import write_tensors
from targets.fitting import inputs_of, outputs_of, weights_beside
from targets.foreign_json import shown
from targets.kernels import Kernel, Profile, join_kernels
from targets.measurement import Session
from targets.outputs import read_outputs
from targets.protocol import one_line
from targets.runtimes import Facts, facts_of
from targets.target import Target
from targets.transports import open_link

# A worker that shows no sign of life for so long is killed. Loading, one run, or a build may take long without being
# stuck; loading and optimising grow with the file.
SILENCE_S = 180.0
SILENCE_S_PER_MB = 2.0

MOST_OUTPUT_BYTES = 1 << 30  # of one run
MOST_GRAPH_BYTES = 64 << 20  # of what a profile brings back beside the weights, which may have grown by a cast or two
MOST_TOLD = 200  # characters of a name that another host gave itself

Found = TypeVar("Found")
Tell = Callable[[str], None]


def silent(line: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Engine:
    """A built model: a file that only its `runtime` reads, on devices of the kind that built it."""

    path: Path
    sha256: str
    runtime: str
    target: str


class Connection:
    """One agent on the device. One request at a time; not for several threads.

    Every model may be an `Engine` or the path of an ONNX file; one that is newer than what the runtime reads is
    converted on its way there. A request whose link is lost is asked again over a new one, where the transport knows
    how long that may take. Errors: `BadInput` for what the user gave, `RuntimeMissing`, and `TargetError` for
    everything else that goes wrong over there, each in one line.
    """

    device: Device
    conditions: dict[str, Any]  # clocks, heat and power when it was opened, see `targets.conditions`
    lock: dict[str, Any]  # whether its clocks are held, and the command that holds them, see `targets.conditions.Lock`

    def __init__(self, target: Target, at_end: contextlib.ExitStack, lower: Lower | None, tell: Tell) -> None:
        """`at_end`: what is done when the connection ends."""
        self.target = target
        self._copies = Copies(target.runtime, lower, at_end)
        self._tell = tell
        self.place, self.repeated = "", 0  # of a fleet: which device is at the request, how many died over it
        self._observed: Mapping[str, Any] = {}  # of the device that answered last, where it is not always the same
        self._ended = threading.Event()
        self._outputs: tuple[object, list[str] | None] = (None, None)  # of the last model that was run
        facts_of(target.runtime)
        self._line = at_end.enter_context(contextlib.ExitStack())
        self.device = self._open()

    @property
    def facts(self) -> Facts:
        """What this connection's runtime is like."""
        return facts_of(self.target.runtime)

    @property
    def engine_suffix(self) -> str:
        """What the names of this runtime's engines end in."""
        return self.facts.suffix

    def engine_path(self, output: Path) -> Path:
        """Where `build` keeps the engine: `output`, with the suffix where it has another one or none."""
        if output.name.endswith(self.engine_suffix):
            return output
        return output.with_name(output.name + self.engine_suffix)

    def describe(self, model: Engine | Path) -> list[dict[str, Any]]:
        """The inputs: `{"name", "shape", "dtype"}`, free dimensions as symbols or None. Of an ONNX file on a runtime of
        fixed shapes: as the file declares them, and no runtime has seen it."""
        path = check(model)
        if self._binds(model):
            return inputs_of(path)
        told = self._again(lambda: self._ask("describe", {"model": self._link.put(path)}, limit_s(path)))
        with self._understood():
            return answers.inputs_from(told)

    def build(
        self,
        model: Path,
        output: Path,
        *,
        shapes: Mapping[str, Sequence[int]] | None = None,
        optimise: bool = True,
    ) -> Engine:
        """Build an engine on the device, see that it loads there, and keep it at `engine_path(output)` (whole or
        not at all). `shapes` binds free dimensions (unset batch: 1) where the runtime has none; other engines leave
        them free."""
        path = check(model)
        output = self.engine_path(output)

        def work() -> None:
            made = f"{self._link.folder}/engine{self.engine_suffix}"
            arguments = {"model": self._put(model, shapes), "output": made, "optimise": optimise}
            self._ask("build", arguments, limit_s(path))
            self._link.fetch(made, output)

        self._again(work)
        return Engine(output, digest(output), self.target.runtime, self.target.name)

    def run(
        self, engine: Engine | Path, feeds: Mapping[str, NDArray[Any]], *, optimise: bool = True
    ) -> dict[str, NDArray[Any]]:
        """All outputs by name. `optimise=False` runs the graph as it is written. The loaded model is kept on the device
        for the next call, so running many batches loads it once."""
        path = check(engine)
        with tempfile.TemporaryDirectory(prefix="cutback-feeds-") as folder:
            sent, got = Path(folder, "feeds.npz"), Path(folder, "outputs.npz")
            write_tensors(str(sent), feeds)
            given = {name: feed.shape for name, feed in feeds.items()}

            def work() -> None:
                made = f"{self._link.folder}/outputs.npz"
                arguments = {"model": self._put(engine, given), "feeds": self._link.put(sent), "output": made}
                self._ask("run", {**arguments, "optimise": optimise}, limit_s(path))
                self._link.fetch(made, got, MOST_OUTPUT_BYTES)

            self._again(work)
            with self._understood():
                return read_outputs(got, self._outputs_of(engine))

    def time(
        self, engine: Engine | Path, *, shapes: Mapping[str, Sequence[int]] | None = None, quick: bool = False
    ) -> Session:
        """One session: a fresh process, warmed up, timed by the protocol. `shapes` binds free dimensions of inputs
        (unset batch: 1). `quick` is shorter and says so in the session."""
        path = check(engine)

        def work() -> Any:
            arguments = {"model": self._put(engine, shapes), "shapes": plain(shapes), "quick": quick}
            return self._ask("time", arguments, limit_s(path))

        raw = self._again(work)
        with self._understood():
            return self._of_its_regime(answers.session_from(raw))

    def cool(self, on_wait: Callable[[str], None] = lambda line: None) -> bool:
        """Wait on the device until what throttled it has gone back, for a minute at most; whether it has. `on_wait`
        gets what it waits for, every second."""

        def show(event: Mapping[str, Any]) -> None:
            self._on_event(event)
            if event.get("stage") == "cool":
                now = event.get("temperature_c")
                on_wait("cooling down" + (f", {now:.0f} degrees" if isinstance(now, int | float) else ""))

        found = self._again(lambda: self._ask("cool", {}, SILENCE_S, show))
        with self._understood():
            return not answers.part_of(found, "left")

    def profile(
        self,
        model: Engine | Path,
        *,
        shapes: Mapping[str, Sequence[int]] | None = None,
        runs: int = 30,
        kernels_only: bool = False,
    ) -> Profile:
        """In one fresh process, plain runs, profiled runs and the gauge taking turns; at least `runs` of each of the
        first two, joined kernel by kernel to the tensors of `model`; no kernels where the runtime tells none. With
        `kernels_only` there are no plain runs and no copies, the profile's end-to-end session holds what the kernels
        took together, and `NoKernelTimes` is raised where the runtime tells none."""
        path = check(model)
        if runs < 1:
            raise BadInput(f"A profile of {runs} runs shows nothing. Ask for at least 1.")
        if kernels_only and self.facts.join is None:
            raise NoKernelTimes(f"{self.target.runtime} tells no kernel times. Profile whole networks on it.")
        with tempfile.TemporaryDirectory(prefix="cutback-graph-") as folder:
            graph = Path(folder, "graph.onnx")

            def work() -> answers.Profiled:
                made = f"{self._link.folder}/graph.onnx"
                sent = {"model": self._put(model, shapes), "gauge": self._put(self._copies.gauge(), None)}
                asked = {"shapes": plain(shapes), "runs": runs, "graph": made, "kernels_only": kernels_only}
                told = self._ask("profile", {**sent, **asked}, limit_s(path))
                with self._understood():
                    profiled = answers.profile_from(told, kernels_only=kernels_only)
                if profiled.kernels is not None:
                    self._link.fetch(made, graph, 4 * size_of(path) + MOST_GRAPH_BYTES)
                return profiled

            session, gauge_ns, stream_ns, raw = self._again(work)
            session = self._of_its_regime(session)
            device = replace(self.device, observed={**self.device.observed, **self._observed})
            kernels: tuple[Kernel, ...] = ()
            if raw is not None:
                with self._understood():
                    kernels = answers.joined(join_kernels(self.target.runtime, raw, graph, path, plain(shapes)))
            if kernels_only:
                together = zip(*(kernel.samples_ns for kernel in kernels), strict=True)
                session = replace(session, samples_ns=tuple(map(sum, together)))
            return Profile(kernels, session, device, gauge_ns, stream_ns)

    def _of_its_regime(self, session: Session) -> Session:
        """With the doubt whether the clocks were as the target says. `TargetError` where they were not: a device that
        restarted has forgotten what held them."""
        lock = session.conditions.get("lock", self.lock)
        with self._understood():
            check_regime(self.target.regime, lock, self.target.name)
            return replace(session, doubts=(*session.doubts, *regime_doubts(self.target.regime, lock)))

    def _binds(self, model: Engine | Path) -> bool:
        """Whether the model is an ONNX file for a runtime that takes no free dimensions."""
        return not isinstance(model, Engine) and Path(model).suffix == ".onnx" and self.facts.fixed

    def _put(self, model: Engine | Path, shapes: Mapping[str, Sequence[int]] | None) -> str:
        """The model on the device, as the runtime there reads it."""
        if isinstance(model, Engine):
            return self._link.put(model.path)
        bound = plain(shapes) if self._binds(model) else None
        return self._link.put(self._copies.find(Path(model), self._reads, bound))

    def _outputs_of(self, model: Engine | Path) -> list[str] | None:
        """What an ONNX file calls its outputs; None for an engine, which only its runtime reads."""
        if isinstance(model, Engine) or Path(model).suffix != ".onnx":
            return None
        path = Path(model)
        key = (path.absolute(), path.stat().st_mtime_ns)
        if self._outputs[0] != key:
            self._outputs = (key, outputs_of(path))
        return self._outputs[1]

    def _open(self) -> Device:
        """A new link in place of the present one, and the device at its other end."""
        self._line.close()
        if self._ended.is_set():
            raise LinkLost(f"The connection to {self.target.name} was interrupted. Connect again.")
        self._lost = False
        self._link = self._line.enter_context(open_link(self.target))
        told = self._ask("device", {}, SILENCE_S)
        with self._understood():
            found, self._reads = answers.device_from(told)
            self.conditions, self.lock = answers.conditions_from(told)
            check_regime(self.target.regime, self.lock, self.target.name)
        observed = {**found.observed, **self._observed}
        return replace(found, regime={**found.regime, "regime": self.target.regime}, observed=observed)

    def _again(self, work: Callable[[], Found]) -> Found:
        """What `work` gives; where the link is lost meanwhile, over a new one to the same device."""
        for pause_s in (*self._link.pauses_s, None):
            try:
                if self._lost:
                    self._reopen()
                return work()
            except LinkLost as lost:
                self._lost = True
                if pause_s is None or self._ended.is_set():
                    raise
                self._tell(f"{lost} Trying again in {pause_s:.0f} s.")
                self._ended.wait(pause_s)
        raise AssertionError("the last attempt returns or raises")

    def _reopen(self) -> None:
        found = self._open()
        for part in ("device_class", "stack", "regime"):
            if getattr(found, part) != getattr(self.device, part):
                raise TargetError(
                    f"{self.target.name} came back with another {part.replace('_', ' ')}. What was measured before and "
                    "what would be now do not go together: start again."
                )
        for name in ("host", "serial") if self._link.one_device else ():
            if found.observed.get(name) != self.device.observed.get(name):
                raise TargetError(f"Where {self.target.name} was, another device answers. Look at its address.")

    def _ask(self, verb: str, arguments: dict[str, Any], silence_s: float, on_event: Event | None = None) -> Any:
        target = self.target
        setting = {
            "runtime": target.runtime,
            "threads": target.threads,
            "options": dict(target.options),
            "cores": target.cores,
        }
        result, _ = self._link.channel.ask(
            verb, arguments, setting=setting, silence_s=silence_s, on_event=on_event or self._on_event
        )
        return result

    def devices(self) -> list[str]:
        """The names of all that are reached through it."""
        if self._link.one_device:
            return [str(self.device.observed.get("host", self.target.name))]
        told = self._again(lambda: self._ask("devices", {}, SILENCE_S))
        with self._understood():
            return answers.names_from(told)

    def interrupt(self) -> None:
        """From another thread: the request that is waited for ends with `LinkLost`, and so does every other one."""
        self._ended.set()
        self._link.channel.process.kill()

    def _on_event(self, event: Mapping[str, Any]) -> None:
        if "waiting_for" in event:
            self._tell(f"{self.target.name} is busy for {str(event['waiting_for'])[:MOST_TOLD]}; waiting.")
        if isinstance(event.get("note"), str):
            self._tell(f"{self.target.name}: {event['note'][:MOST_TOLD]}")
        if isinstance(event.get("place"), str) and isinstance(event.get("repeated"), int):
            self.place, self.repeated = event["place"][:MOST_TOLD], event["repeated"]
        if "observed" in event:  # of a fleet: the device that has just answered
            with self._understood():
                self._observed = answers.document(event["observed"], "observed")

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        """An answer of the wrong form is the device's fault, in one line."""
        try:
            yield
        except CutbackError:
            raise
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as failure:
            what = str(failure) if type(failure) is ValueError else f"{type(failure).__name__}: {failure}"
            raise TargetError(
                f"The agent on {self.target.name} answered with what makes no sense ({one_line(shown(what[:1000]))}). "
                "Is that device what you think it is?"
            ) from failure


@contextlib.contextmanager
def connect(target: Target, *, lower: Lower | None = None, tell: Tell = silent) -> Iterator[Connection]:
    """A connection to the target's device; leaving the context leaves nothing running there.

    `lower` compiles ONNX on the host, for runtimes that want it so. `tell` gets a line for a person where something
    takes longer than it should: a device that others use, a link that was lost.
    """
    with contextlib.ExitStack() as at_end:
        yield Connection(target, at_end, lower, tell)


def check(model: Engine | Path) -> Path:
    """The model's path. `BadInput` when it is no file that can be read."""
    path = model.path if isinstance(model, Engine) else Path(model)
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as failure:
        raise BadInput(f"Cannot read the model {path}: {failure.strerror}.") from failure
    if empty:
        raise BadInput(f"The model {path} is an empty file.")
    return path


def limit_s(path: Path) -> float:
    """How long a worker may be silent over this model."""
    return SILENCE_S + SILENCE_S_PER_MB * path.stat().st_size / 1e6


def size_of(path: Path) -> int:
    """Bytes of a model, with the weights that lie beside it."""
    return path.stat().st_size + weights_beside(path)


def plain(shapes: Mapping[str, Sequence[int]] | None) -> dict[str, list[int]]:
    return {name: [int(dim) for dim in shape] for name, shape in (shapes or {}).items()}
