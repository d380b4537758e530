"""What comes from a device takes its place on this machine."""

import contextlib
import os
import shutil
from pathlib import Path

from targets.errors import BadInput


def keep(got: Path, output: Path) -> None:
    """Move `got` to `output`, where it appears whole or not at all; either way nothing else of it is left. `BadInput`
    where it cannot be written."""
    beside = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        shutil.move(got, beside)
        beside.replace(output)
    except OSError as failure:
        raise BadInput(f"Cannot write {output}: {failure.strerror}. Free space or choose another path.") from failure
    finally:
        for left in (got, beside):
            with contextlib.suppress(OSError):
                left.unlink()
