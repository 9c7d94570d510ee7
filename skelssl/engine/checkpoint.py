"""Checkpoints that are complete or absent, whatever happens while they are written."""

import json
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from skelssl.data.store import file_hash

KEPT = 2  # the newest, and one to fall back to


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read."""


def save_checkpoint(folder: Path, epoch: int, state: dict[str, Any]) -> None:
    """Writes the state after `epoch` complete epochs; of the older checkpoints the newest stays.

    The data come first, then a small file with their hash, by which alone a checkpoint counts as there; both are
    written under another name, synchronised and renamed.

    Raises:
        CheckpointError: the disk refuses; the older checkpoints are unchanged.
    """
    data = folder / f"checkpoint-{epoch:06d}.pt"
    try:
        replace_file(data, lambda partial: torch.save(state, partial))
        content = json.dumps({"epoch": epoch, "sha256": file_hash(data), "bytes": data.stat().st_size})
        replace_file(data.with_suffix(".json"), lambda partial: partial.write_text(content))
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise CheckpointError(f"{data}: the checkpoint could not be written: {error}") from error
    for record in _records(folder)[KEPT:]:
        record.unlink(missing_ok=True)
    kept = {record.stem for record in _records(folder)}
    for old in folder.glob("checkpoint-*.pt"):  # also data that a killed process left without a record
        if old.stem not in kept:
            old.unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The state of the newest undamaged checkpoint, on the CPU; None where there is no checkpoint at all.

    A damaged one is passed over with a warning: as training is a pure function of the recipe, going on from an older
    one costs time but leads to the same weights.

    Raises:
        CheckpointError: there are checkpoints, all of them damaged.
    """
    problems: list[str] = []
    for record in _records(folder):
        try:
            state = _load(record)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        if problems:
            warnings.warn(f"{'; '.join(problems)}; going on from {record.stem}", stacklevel=2)
        return state
    if problems:
        raise CheckpointError("; ".join(problems))
    return None


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Calls write(partial path), then puts the result in the place of `path`, synchronised with the disk."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
        _synchronise_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _records(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("checkpoint-*.json"), reverse=True)


def _load(record: Path) -> dict[str, Any]:
    data = record.with_suffix(".pt")
    try:
        expected = json.loads(record.read_text())["sha256"]
        found = file_hash(data)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{record}: cannot be read: {error!r}") from None
    if found != expected:
        raise CheckpointError(f"{data}: damaged: expected the hash {expected[:12]}…, found {found[:12]}…")
    try:
        return torch.load(data, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{data}: expected a checkpoint: {' '.join(str(error).split())}") from None


def _synchronise_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
