"""State of a run on disk, safe against being killed at any moment.

Owns the file format. Everything random in a step comes from its number and the seed, so that the
step count is all that has to be remembered of the random state.
"""

import os
from pathlib import Path
from typing import Any

import torch

from encoders.training.dataset import TrainingDataError

FILE = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any], *, name: str = FILE) -> None:
    """Write beside and rename: there is always one whole checkpoint, the old or the new."""
    beside = folder / f".{name}.{os.getpid()}"
    with beside.open("wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(folder / name)


def load_checkpoint(folder: Path, *, fingerprint: str, name: str = FILE) -> dict[str, Any] | None:
    """The state of a run, or None where it has not begun.

    Args:
        folder: of the run.
        fingerprint: of settings and data; a checkpoint of others is refused.
        name: of the file.

    Raises:
        TrainingDataError: the folder belongs to a run with other settings or data.
    """
    path = folder / name
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if state["fingerprint"] != fingerprint:
        raise TrainingDataError(
            f"{path} was made with other settings or data ({state['fingerprint']}, now "
            f"{fingerprint}); choose another --out, or the settings in {folder / 'run.json'}"
        )
    return state
