"""Checkpoints that are complete or absent, whatever happens while they are written."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from skelssl.data.store import file_hash

PATTERN = "checkpoint-*.json"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read."""


def save_checkpoint(folder: Path, epoch: int, state: dict[str, Any]) -> None:
    """Writes the state after `epoch` complete epochs and removes older checkpoints.

    The data come first, then a small file with their hash, by which alone a checkpoint counts as there; both are
    written under another name, synchronised and renamed.

    Raises:
        CheckpointError: the disk refuses; the previous checkpoint is unchanged.
    """
    data = folder / f"checkpoint-{epoch:06d}.pt"
    record = data.with_suffix(".json")
    try:
        replace_file(data, lambda partial: torch.save(state, partial))
        content = json.dumps({"epoch": epoch, "sha256": file_hash(data), "bytes": data.stat().st_size})
        replace_file(record, lambda partial: partial.write_text(content))
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise CheckpointError(f"{data}: the checkpoint could not be written: {error}") from error
    for old in [*folder.glob("checkpoint-*.json"), *folder.glob("checkpoint-*.pt")]:
        if old not in (data, record):
            old.unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The state of the last complete checkpoint, on the CPU; None where there is none.

    Raises:
        CheckpointError: its data are missing or damaged.
    """
    records = sorted(folder.glob(PATTERN))
    if not records:
        return None
    record = records[-1]
    data = record.with_suffix(".pt")
    try:
        expected = json.loads(record.read_text())["sha256"]
        found = file_hash(data)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{record}: cannot be read: {error!r}") from None
    if found != expected:
        raise CheckpointError(f"{data}: damaged: expected the hash {expected[:12]}…, found {found[:12]}…")
    return torch.load(data, map_location="cpu", weights_only=True)


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


def _synchronise_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
