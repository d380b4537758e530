"""The fields of a target: what each may say, whether a file or a command line says it."""

import difflib
import re
from collections.abc import Collection, Mapping

from targets import cores
from targets.runtimes import RUNTIMES
from targets.transports import TRANSPORTS

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
REGIMES = ("as-shipped", "locked")

CHOICES: Mapping[str, tuple[str, ...]] = {
    "transport": tuple(TRANSPORTS),
    "runtime": tuple(RUNTIMES),
    "precision": PRECISIONS,
    "regime": REGIMES,
    "cores": cores.CHOICES,
}

PASSWORD = re.compile(r"(\w+://)?[^@:/,=]*:(?!//)[^@,]*@")
NO_PASSWORDS = "an address holds no password, since it is shown wherever the target is named. Use a key instead"

TEXTS = ("address", "config", "tag", "python", "binary", "folder")
FIELDS = (
    "transport", "address", "config", "tag", "runtime", "precision", "threads", "cores", "regime", "python", "binary",
    "folder",
)  # fmt: skip

# The targets that are always there: name -> the runtime that each uses here.
LOCAL: Mapping[str, str] = {
    "local": "onnxruntime",
    **{f"local-{runtime}": runtime for runtime in RUNTIMES if runtime != "onnxruntime"},
}


def problem(field: str, value: object) -> str:
    """What is wrong with the value of one of `FIELDS`, in some words; "" where nothing is."""
    if field in CHOICES:
        if value in CHOICES[field]:
            return ""
        return f"{field} {value!r} is none of {', '.join(CHOICES[field])}{close_to(value, CHOICES[field])}"
    if field == "threads":
        return "" if type(value) is int and value >= 1 else f"threads={value} is no number of cores"
    if not isinstance(value, str) or not value.isprintable():
        return f"{field} = {value!r} is no line of text"
    return NO_PASSWORDS if field == "address" and has_password(value) else ""


def has_password(address: str) -> bool:
    """Whether it is of the form `user:password@host`, with or without a scheme."""
    return PASSWORD.match(address) is not None


def close_to(word: object, known: Collection[str]) -> str:
    """A question for whoever mistyped; "" where nothing is near."""
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
