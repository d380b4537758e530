"""The tensors that a device brings back, read as what they claim to be and nothing else (host side).

The file is the .npz of `targets.feeds.write_tensors`: members that are stored, not packed, so that what is read is
never larger than the file; plain numbers, so that nothing in it is run.
"""

import math
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from targets.feeds import NAME
from targets.foreign_json import shown

MOST_TENSORS = 10_000
KINDS = "biuf"  # of numbers; names are "U"
LONGEST_HEADER = 1 << 12
LARGEST_LETTER = 0x10FFFF  # of Unicode


def read_outputs(path: Path, expected: Sequence[str] | None) -> dict[str, NDArray[Any]]:
    """The tensors by name. `expected`: what the model calls its outputs, where that is known. `ValueError` for a file
    that no agent of ours wrote."""
    own = {shown(name): name for name in expected or ()}
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
            refuse_bombs(archive.infolist(), path.stat().st_size)
            names = names_in(archive, members)
            if expected is not None and set(names) != set(own):
                raise ValueError("the outputs are not those of the model")
            if set(members) != {"names.npy", *(f"{NAME.format(index)}.npy" for index in range(len(names)))}:
                raise ValueError("the file of outputs holds other things than outputs")
            return {
                own.get(name, name): read_array(archive, members[f"{NAME.format(index)}.npy"], KINDS)
                for index, name in enumerate(names)
            }
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, OSError, RuntimeError, struct.error) as failure:
        raise ValueError(f"a file of outputs that is none ({failure})") from failure


def refuse_bombs(members: list[zipfile.ZipInfo], size: int) -> None:
    """Packed members may grow, and members that overlap count twice: these make more of a file than there is of it."""
    if len(members) > MOST_TENSORS:
        raise ValueError(f"a file of more than {MOST_TENSORS} outputs")
    if any(member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 for member in members):
        raise ValueError("a file of outputs that is packed")
    if sum(member.file_size for member in members) > size:
        raise ValueError("a file of outputs that claims to hold more than it can")


def names_in(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> list[str]:
    if "names.npy" not in members:
        raise ValueError("a file of outputs without their names")
    names = read_array(archive, members["names.npy"], "U")
    if names.ndim != 1 or len(names) > MOST_TENSORS:
        raise ValueError("names of outputs that are no list")
    found = [shown(str(name)) for name in names]
    if len(set(found)) < len(found):
        raise ValueError("two outputs of one name")
    return found


def read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, kinds: str) -> NDArray[Any]:
    """One member, whose header is believed once its size fits."""
    with archive.open(member) as stream:
        shape, fortran, dtype = header_of(stream)
        if dtype.kind not in kinds or dtype.hasobject or not dtype.isnative or dtype.subdtype is not None:
            raise ValueError(f"an output of type {str(dtype)[:40]}")
        if any(dim < 0 for dim in shape) or len(shape) > 32:
            raise ValueError("an output of a shape that cannot be")
        size = math.prod(shape) * dtype.itemsize
        left = member.file_size - stream.tell()
        if size != left:
            raise ValueError(f"an output of {size} bytes in {left}")
        data = stream.read()
        if len(data) != size:
            raise ValueError("an output that ends early")
        array = np.frombuffer(bytearray(data), dtype) if size else np.empty(0, dtype)
        if dtype.kind == "U" and size and int(np.max(array.view(np.uint32))) > LARGEST_LETTER:
            raise ValueError("names of outputs that are no text")
    return array.reshape(shape, order="F" if fortran else "C")


def header_of(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError("an output in a format that is not ours")
    shape, fortran, dtype = read(stream, max_header_size=LONGEST_HEADER)
    return tuple(shape), bool(fortran), dtype
