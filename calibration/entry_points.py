"""Python entry points, `package.module:callable` or `path/to/file.py:callable`, for data and metrics."""

import functools
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from targets.errors import BadInput


def is_entry_point(text: str) -> bool:
    """True for `something:identifier` that is not the name of a file that exists."""
    module, colon, name = text.rpartition(":")
    return bool(colon and module and name.isidentifier()) and not Path(text).exists()


def load_entry_point(text: str, purpose: str) -> Callable[..., Any]:
    """The callable that `text` names; imports find what lies in the working directory, or beside the file.

    BadInput where it cannot be imported, does not exist or is not callable. What the callable itself raises comes out
    as a BadInput too, chained to the original; `purpose` opens every message ("Data source", "Metric").
    """
    location, _, name = text.rpartition(":")
    folder = Path(location).resolve().parent if location.endswith(".py") else Path.cwd()
    with _importable(folder):
        module = _import(location, text, purpose)
    found = vars(module).get(name)
    if not callable(found):
        state = "is not there" if found is None else f"is a {type(found).__name__}, not callable"
        names = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise BadInput(f"{purpose} {text}: {name!r} {state}. Callables there: {', '.join(names) or 'none'}.")

    @functools.wraps(found)
    def call(*arguments: Any) -> Any:
        try:
            with _importable(folder):
                return found(*arguments)
        except BadInput:
            raise
        except Exception as error:
            raise BadInput(f"{purpose} {text} raised {_one_line(error)}. Correct it and run again.") from error

    return call


def _import(location: str, text: str, purpose: str) -> ModuleType:
    path = Path(location)
    if location.endswith(".py") and not path.is_file():
        raise BadInput(f"{purpose} {text}: there is no file {path}. Give path/to/file.py:callable.")
    try:
        return _import_file(path) if location.endswith(".py") else importlib.import_module(location)
    except Exception as error:
        raise BadInput(
            f"{purpose} {text}: {location} could not be imported: {_one_line(error)}. "
            f"Give package.module:callable or path/to/file.py:callable."
        ) from error


def _import_file(path: Path) -> ModuleType:
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    name = f"cutback_entry_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look their module up by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
