"""Torch refuses dots in parameter names and names that the module already uses; ONNX has both.

The escape is percent-encoding of just the offending characters, so most names stay as they are, no two names collide,
and `unescape` needs no table.
"""

from collections.abc import Collection
from urllib.parse import unquote


def escape(name: str, taken: Collection[str]) -> str:
    """The torch name of the ONNX tensor `name`; `taken` are attribute names that the module has already."""
    escaped = name.replace("%", "%25").replace(".", "%2E")
    if escaped in taken:
        escaped = f"%{ord(escaped[0]):02X}{escaped[1:]}"
    return escaped


def unescape(name: str) -> str:
    """The ONNX name that `escape` was given."""
    return unquote(name)
