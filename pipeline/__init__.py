"""From a trained network and a goal to an engine that was cut, checked and measured.

The functions carry the names of the commands and do the same: `from pipeline import compress`. Each is imported when it
is first asked for, so that `import pipeline` costs nothing.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.check import check as check
    from pipeline.compress import compress as compress
    from pipeline.inspect import inspect as inspect
    from pipeline.measure import measure as measure
    from pipeline.predict import predict as predict
    from pipeline.profile import profile as profile
    from pipeline.prune import prune as prune
    from pipeline.recipe import Recipe as Recipe
    from pipeline.report import write_report as write_report
    from pipeline.sweep import sweep as sweep

HOMES = {
    "Recipe": "pipeline.recipe",
    "check": "pipeline.check",
    "compress": "pipeline.compress",
    "inspect": "pipeline.inspect",
    "measure": "pipeline.measure",
    "predict": "pipeline.predict",
    "profile": "pipeline.profile",
    "prune": "pipeline.prune",
    "sweep": "pipeline.sweep",
    "write_report": "pipeline.report",
}

__all__ = ["Recipe", "check", "compress", "inspect", "measure", "predict", "profile", "prune", "sweep", "write_report"]


class Package(ModuleType):
    """Keeps a function's name the function: importing `pipeline.check` would otherwise put the module in its place."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = Package


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
