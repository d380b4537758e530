"""From arguments to an exit status; every error becomes one clear line."""

import errno
import os
import sys
import traceback
from collections.abc import Sequence

import typer

from pipeline.cli.app import app
from targets.errors import CutbackError

BAD_INPUT = 2
DEFECT = 70  # sysexits.h: an error inside the program; never that of a caller who did something wrong
INTERRUPTED = 130
CAUSES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
}
EXTRAS = {"torch": "torch", "onnxscript": "torch", "tensorrt": "tensorrt", "pycuda": "tensorrt"}  # package -> extra

# What typer raises for wrong usage. Its base has moved between typer's versions; its subclass has not.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command (None: the process's own arguments) and return its exit status.

    0 done, 1 a goal or gate not met, 2 bad input, 70 a defect of cutback, 130 interrupted.
    """
    try:
        status = app(None if arguments is None else list(arguments), standalone_mode=False, prog_name="cutback")
    except KeyboardInterrupt:
        status = INTERRUPTED
    except typer.Abort:
        status = INTERRUPTED
    except UsageError as error:
        return failed(usage(error), BAD_INPUT) if str(error) else BAD_INPUT  # nothing to say: the help stands there
    except CutbackError as error:
        return failed(str(error), error.exit_status)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BAD_INPUT
    except OSError as error:
        return failed(outside(error), BAD_INPUT)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            return failed(defect(error), DEFECT)
        return failed(f"{error.name} is not installed. Run: pip install 'cutback[{EXTRAS[error.name]}]'", BAD_INPUT)
    except MemoryError:
        return failed("out of memory. Give a smaller --batch-size, or a machine with more memory.", BAD_INPUT)
    except Exception as error:  # noqa: BLE001 - the last resort: a defect is reported in one line too
        return failed(defect(error), DEFECT)
    if status == INTERRUPTED:
        return failed("interrupted; run the same command again to continue", INTERRUPTED)
    return status if isinstance(status, int) else 0


def failed(message: str, status: int) -> int:
    """Print the error, a line for each of the message's, and give the status back."""
    if os.environ.get("CUTBACK_TRACEBACK", "0") not in ("", "0") and sys.exc_info()[0] is not None:
        traceback.print_exc()
    for line in message.splitlines() or ["unknown error"]:
        sys.stderr.write(f"cutback: error: {line}\n")
    return status


def usage(error: Exception) -> str:
    context = getattr(error, "ctx", None)  # absent where the arguments were not even assigned to a command
    command = context.command_path if context is not None else "cutback"
    message = getattr(error, "format_message", error.__str__)()
    return f"{' '.join(str(message).split()).rstrip('.')}. Try: {command} --help"


def outside(error: OSError) -> str:
    cause = CAUSES.get(error.errno or 0, error.strerror or one_line(error))
    return f"{error.filename}: {cause}" if error.filename else cause


def defect(error: Exception) -> str:
    return f"{one_line(error)}; this is a defect of cutback. CUTBACK_TRACEBACK=1 shows where it is."


def one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
