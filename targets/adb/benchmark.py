"""A runtime's own benchmark program, which somebody built for their phone (host side). Adding one: a file here, a line
in `BENCHMARKS`, a test against its documented output."""

import abc
import hashlib
import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.adb.phone import Phone, Ran
from targets.channel import digest
from targets.errors import BadInput, TargetError
from targets.protocol import one_line
from targets.runtimes import Reads

Feeds = Mapping[str, NDArray[Any]]

# runtime -> module with `start(Installed, folder) -> Benchmark`, and programs that may lie beside the one. A module is
# imported when it is asked for.
BENCHMARKS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "onnxruntime": ("targets.adb.perf_test", ()),
    "mnn": ("targets.adb.mnn_module", ("MNNV2Basic.out",)),
}

LIBRARIES = "lib*.so"
NOT_STARTED = (126, 127)  # a shell's words for: not executable, not found


class DoesNotStart(TargetError):
    """A program that is not for this phone, or that lacks a library."""


@dataclass(frozen=True)
class Installed:
    """A program on a phone. `places`: what has to lie beside a model so that it starts (see `Phone.arrange`);
    `version`: a hash of it and of the libraries beside it, since it does not tell its own. `threads`: that it may use,
    on the cores of `mask`."""

    phone: Phone
    places: Mapping[str, str]
    version: str
    threads: int
    mask: str

    def run(self, places: Mapping[str, str], words: Sequence[str], limit_s: float, program: str = "program") -> Ran:
        """`DoesNotStart` where it could not even do that."""
        self.phone.arrange({**self.places, **places})
        ran = self.phone.run([f"./{program}", *words], self.mask, limit_s)
        if ran.status in NOT_STARTED or "CANNOT LINK EXECUTABLE" in ran.said:
            raise DoesNotStart(
                f"{self.phone.adb.name}: the benchmark does not start there (status {ran.status}): {last_words(ran)} "
                "Build it for this phone's processor, with its libraries (lib*.so) beside it."
            )
        return ran


class Benchmark(abc.ABC):
    """What one kind of program can do. Models are files of the host. Each call is a fresh process on the phone. Errors:
    `BadInput` for a model that is none, `TargetError` for what the program cannot do."""

    single_runs: bool  # it tells the time of each run; else the mean of all

    @abc.abstractmethod
    def stack(self) -> dict[str, Any]:
        """See `targets.runtimes.Runtime`."""

    @abc.abstractmethod
    def reads(self) -> Reads:
        """The newest ONNX that it takes, directly or through its converter here."""

    @abc.abstractmethod
    def inputs(self, model: Path) -> list[dict[str, Any]]:
        """See `targets.runtimes.Loaded`."""

    @abc.abstractmethod
    def build(self, model: Path, output: Path) -> None:
        """Write an engine, or the model as it is where the program takes no other."""

    @abc.abstractmethod
    def run(self, model: Path, feeds: Feeds, limit_s: float) -> dict[str, NDArray[Any]]:
        """The outputs by name. `TargetError` where the program shows none."""

    @abc.abstractmethod
    def time(self, model: Path, feeds: Feeds, runs: int, limit_s: float) -> list[int]:
        """Nanoseconds: of each run in order, or the one mean of all."""

    def profile(self, model: Path, feeds: Feeds, runs: int, graph: Path, limit_s: float) -> list[dict[str, Any]] | None:
        """Kernels as `targets.runtimes.Profiled` has them, with a sample for each run or the one mean of all; writes
        what the join needs to `graph`. None: the program tells no kernel times."""
        return None


def install(runtime: str, binary: str, phone: Phone, threads: int, mask: str, folder: Path) -> Benchmark:
    """`binary`: a file here, which is pushed with the libraries beside it, or a path on the phone."""
    if runtime not in BENCHMARKS:
        raise BadInput(f"binary= is for the runtimes {', '.join(BENCHMARKS)}, not for {runtime}.")
    module, companions = BENCHMARKS[runtime]
    here = Path(binary).expanduser()
    if here.is_file():
        files = {"program": here, **{f"bin/{each.name}": each for each in sorted(here.parent.glob(LIBRARIES))}}
        files.update({name: here.parent / name for name in companions if (here.parent / name).is_file()})
        places = {place: phone.store(path) for place, path in files.items()}
        version = digest_of(digest(path) for path in files.values())
    elif binary.startswith("/"):
        beside = binary.rpartition("/")[0]
        hashes = {name: phone.executable(f"{beside}/{name}") for name in companions}
        places = {
            "program": binary,
            "bin": beside or "/",
            **{each: f"{beside}/{each}" for each in hashes if hashes[each]},
        }
        hashes["program"] = phone.executable(binary)
        if not hashes["program"]:
            raise BadInput(
                f"{binary} is no program on {phone.adb.name}, and no file here. Push it there and chmod 755 it."
            )
        version = digest_of(hashes.values())
    else:
        raise BadInput(f"binary={binary} is no file here. Name one, or its whole path on the phone, such as /data/...")
    installed = Installed(phone, places, version, threads, mask)
    made: Benchmark = importlib.import_module(module).start(installed, folder)
    return made


def digest_of(hashes: Iterable[str]) -> str:
    return hashlib.sha256("".join(hashes).encode()).hexdigest()[:12]


def last_words(ran: Ran) -> str:
    """The end of what a program said, in one line."""
    lines = [line.strip() for line in ran.said.splitlines() if line.strip()]
    return one_line(" ".join("".join(each for each in line if each.isprintable()) for line in lines[-3:])) or "nothing."


def refuse_other_options(options: Mapping[str, Any], runtime: str) -> None:
    for name in options:
        raise BadInput(f"The benchmark of {runtime} has no option {name!r} here. It has none.")


def as_text(values: NDArray[Any]) -> str:
    """One number a line, exact for float32."""
    return "".join(f"{value:.9g}\n" for value in np.asarray(values, np.float64).ravel())
