"""From what a user names (.npz file, image folder, Python entry point) to checked samples that fit the network."""

from collections.abc import Sequence
from pathlib import Path

from calibration.arrays import read_entry_point, read_npz
from calibration.batches import Batch, InputSpec, Samples, take
from calibration.entry_points import is_entry_point
from calibration.preprocessing import Preprocessing
from targets.errors import BadInput

__all__ = ["Batch", "InputSpec", "Preprocessing", "Samples", "load_samples", "take"]

KINDS = "an .npz file, a folder of images, or package.module:callable"


def load_samples(
    source: str | Path, inputs: Sequence[InputSpec], preprocessing: Preprocessing | None = None
) -> Samples:
    """Samples for a network with these inputs.

    .npz: arrays under the network's input names (of a single one also `x`, `inputs`, `images`), labels `y` or `labels`.
    Folder: one subfolder for each class, or images alone (unlabelled); needs `preprocessing`.
    `package.module:callable` or `file.py:callable`: returns inputs, (inputs, labels), a dict of both, or Samples.

    Without `preprocessing` arrays are what the network reads. With it, float inputs are stored as uint8 pixels in the
    network's layout and normalised batch by batch. Arrays are checked here, once; images when they are decoded.
    Everything that does not fit is a BadInput.
    """
    if not inputs:
        raise BadInput("The network has no inputs, so no samples fit it. Give a network that reads data.")
    if isinstance(source, str) and is_entry_point(source):
        return read_entry_point(source, inputs, preprocessing)
    path = Path(source)
    if path.is_dir():
        from calibration.images import read_folder  # Pillow is needed only here

        return read_folder(path, inputs, preprocessing)
    if not path.exists():
        raise BadInput(f"{path}: no such file or folder. Give {KINDS}.")
    if path.suffix.lower() != ".npz":
        raise BadInput(f"{path}: not a kind of data that can be read. Give {KINDS}.")
    return read_npz(path, inputs, preprocessing)
