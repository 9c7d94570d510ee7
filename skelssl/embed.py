"""`skelssl embed`: features, and classes where they are asked for, of new recordings."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from skelssl.data.fit import IN_SPACE, Depth, Wanted, Window, fitted, windows
from skelssl.data.readers.pose_files import AS_FILES_SAY, Described, read_poses
from skelssl.data.recordings import History
from skelssl.data.store import PER_SAMPLE, Header, Store, StoreError, open_store
from skelssl.engine.checkpoint import replace_file
from skelssl.engine.pretrain import ENCODER
from skelssl.engine.recipe import Recipe
from skelssl.protocols.batch import data_of
from skelssl.protocols.classify import linear, standardised
from skelssl.protocols.context import Context, EvaluationError, load_run, read_recipe
from skelssl.protocols.features import BATCH, encode

SHOWN = 40  # rows of the printed table


@dataclass(frozen=True)
class Classes:
    """Their names, and (S, K) probabilities of windows."""

    names: list[str]
    probabilities: np.ndarray


@dataclass(frozen=True)
class Embedding:
    """Features of windows.

    Attributes:
        features: (S, F) float32.
        names: of each window's recording.
        frames: (S, 2) int64 its first frame and the one behind its last.
        classes: of each window, None where none were asked for.
        notes: by recording what was approximated.
        history: windows that were left out, and repairs.
        about: the run, its recipe's data set and preprocessing, joints.
    """

    features: np.ndarray
    names: list[str]
    frames: np.ndarray
    classes: Classes | None
    notes: dict[str, list[str]]
    history: dict[str, Any]
    about: dict[str, Any]


def embed(
    run: Path,
    files: Sequence[Path],
    *,
    data: Path | None = None,
    window: int | None = None,
    stride: int | None = None,
    described: Described = AS_FILES_SAY,
    depth: Depth = IN_SPACE,
    device: torch.device | str = "cpu",
) -> Embedding:
    """Features of recordings by a run's encoder, each preprocessed as its training data were.

    Args:
        run: folder of a finished run.
        files: see `skelssl.data.readers.pose_files.read_poses`.
        data: the run's store; if given, windows are classified by a linear layer, trained as the protocol `linear` does
            on the labels of the split of pre-training.
        window: frames of a window; None: every recording is one.
        stride: frames from one to the next; by default half a window.
        described: what files do not say about themselves.
        depth: how points of images become points in space.
        device: where the encoder runs.

    Raises:
        EvaluationError: the run is not finished, or not on this data; no window holds a body.
        StoreError: a file cannot be read, or does not fit the encoder; the message names it.
    """
    if window is not None and window < 1:
        raise EvaluationError(f"window: expected at least 1 frame, found {window}")
    if stride is not None and (window is None or not 1 <= stride <= window):
        raise EvaluationError(f"stride: expected 1 to the frames of a window ({window}), found {stride}")
    recipe, store = read_recipe(run), None if data is None else open_store(data)
    if store is not None:
        load_run(run, store)  # checks that it is the run's
    wanted, notes, history = encoder_input(run, recipe, store), {}, History()
    recordings = []
    for poses in (poses for path in files for poses in read_poses(path, described)):
        fit, found = fitted(poses, wanted, depth)
        if fit.name in notes:
            raise StoreError(f"{fit.name}: expected recordings of different names, found two of this one")
        notes[fit.name] = found
        recordings.append(fit)
    encoder = load_encoder(run, recipe, wanted, device)
    every = (each for one in recordings for each in windows(one, wanted, window, stride or _half(window), history))
    features, seen = _encoded(encoder, recipe, wanted, every)
    if not seen:
        raise EvaluationError(f"files: expected a body in at least one window, found {_first_reason(history)}")
    classes = None if store is None else _classified(encoder, recipe, store, features)
    about = {
        "run": str(run),
        "dataset": recipe.dataset,
        "preprocessing": recipe.preprocessing,
        "skeleton": wanted.skeleton.name,
    }
    spans = np.array([(first, end) for _, first, end in seen], np.int64)
    return Embedding(features.numpy(), [name for name, *_ in seen], spans, classes, notes, history.as_data(), about)


def encoder_input(run: Path, recipe: Recipe, store: Store | None = None) -> Wanted:
    """What a run's encoder takes: as its store has it, or as its file says.

    Raises:
        EvaluationError: the encoder is damaged, or neither says it.
    """
    if store is None:
        found = _described_clips(run)
        if found is not None:
            return Wanted(*found, recipe.preprocessing)
        store = data_of(run)
        load_run(run, store)
    persons, _, channels = store.frames.shape[1:]
    header = store.header
    return Wanted(header.skeleton, persons, channels, header.units, recipe.preprocessing)


def load_encoder(run: Path, recipe: Recipe, wanted: Wanted, device: torch.device | str = "cpu") -> nn.Module:
    """A run's encoder in evaluation mode.

    Raises:
        EvaluationError: it is damaged or takes other clips.
    """
    like = as_store(recipe, wanted, [np.zeros((1, wanted.persons, wanted.skeleton.num_joints, wanted.channels))])
    return Context(run, recipe, like, "", "", "", torch.device(device)).trained_encoder()


def as_store(recipe: Recipe, wanted: Wanted, frames: Sequence[np.ndarray]) -> Store:
    """Sequences (T, M, V, C) as a store in memory, without labels."""
    names = [str(number) for number in range(len(frames))]
    header = Header(recipe.dataset, wanted.layout, recipe.preprocessing, wanted.units, [], names)
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in frames])])
    unknown = dict.fromkeys(PER_SAMPLE, np.full(len(frames), -1))
    return Store(Path(), header, np.concatenate(frames, dtype=np.float32), offsets, **unknown, splits={})


def write_embedding(found: Embedding, out: Path) -> None:
    """Writes an `.npz` file that `numpy.load` reads without pickles; see docs/embed.md.

    Raises:
        StoreError: the disk refuses; a file that was there before is unchanged.
    """
    arrays = {
        "features": found.features,
        "names": np.array(found.names),
        "first_frame": found.frames[:, 0],
        "end_frame": found.frames[:, 1],
        "about": np.array(json.dumps({**found.about, "notes": found.notes, "history": found.history})),
    }
    if found.classes is not None:
        names, probabilities = np.array(found.classes.names), found.classes.probabilities
        arrays |= {
            "classes": names,
            "probabilities": probabilities,
            "predicted": names[probabilities.argmax(axis=1)],
        }

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)  # type: ignore[arg-type]

    _replace(out, write)


def write_csv(found: Embedding, out: Path) -> None:
    """Writes a line for each window: its recording and frames, what was predicted, features.

    Raises:
        StoreError: the disk refuses; a file that was there before is unchanged.
    """

    def write(partial: Path) -> None:
        with partial.open("w", newline="") as file:
            lines = csv.writer(file)
            features = [f"feature {number}" for number in range(found.features.shape[1])]
            lines.writerow(["name", "first_frame", "end_frame", *_class_columns(found), *features])
            for row, values in enumerate(found.features.tolist()):
                lines.writerow([found.names[row], *found.frames[row].tolist(), *_predicted(found, row), *values])

    _replace(out, write)


def table(found: Embedding) -> str:
    """Windows as text, the first ones of many, then what was approximated, repaired or left out."""
    rows = [["recording", "frames", *_class_columns(found)]]
    for row in range(min(SHOWN, len(found.names))):
        first, end = found.frames[row]
        rows.append([found.names[row], f"{first}-{end - 1}", *_predicted(found, row)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if len(found.names) > SHOWN:
        lines.append(f"and {len(found.names) - SHOWN} more windows")
    lines += [f"{name}: {note}" for name, notes in found.notes.items() for note in notes]
    left_out = found.history["left out"]
    repaired = {reason: names for reason, names in found.history.items() if reason != "left out"}
    lines += [f"left out: {name}: {reason}" for reason, names in left_out.items() for name in names]
    return "\n".join([*lines, *(f"{len(names)} windows: {reason}" for reason, names in repaired.items())])


def _class_columns(found: Embedding) -> list[str]:
    return [] if found.classes is None else ["predicted", "probability"]


def _predicted(found: Embedding, row: int) -> list[str]:
    if found.classes is None:
        return []
    chances = found.classes.probabilities[row]
    return [found.classes.names[int(chances.argmax())], f"{chances.max():.3f}"]


def _replace(out: Path, write: Callable[[Path], None]) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_file(out, write)
    except OSError as error:
        raise StoreError(f"{out}: cannot be written: {error}") from None


def _half(window: int | None) -> int:
    return max(1, (window or 2) // 2)


def _encoded(
    encoder: nn.Module, recipe: Recipe, wanted: Wanted, every: Iterator[Window]
) -> tuple[Tensor, list[tuple[str, int, int]]]:
    """(S, F) features of windows and where these are; some windows are in memory at a time."""
    features, seen = [], []
    while group := list(islice(every, BATCH)):
        store = as_store(recipe, wanted, [one.frames for one in group])
        features.append(encode(encoder, recipe, store, np.arange(len(group))).float())
        seen += [(one.name, one.first, one.end) for one in group]
    return torch.cat(features) if features else torch.zeros(0, 0), seen


def _classified(encoder: nn.Module, recipe: Recipe, store: Store, features: Tensor) -> Classes:
    """By a linear layer on the labelled samples of the split of pre-training."""
    samples, names = store.select(recipe.training.split), store.header.class_names
    known = encode(encoder, recipe, store, samples).float()
    if recipe.evaluation.standardise:
        known, features = standardised((known, features))
    unlabelled = torch.zeros(len(features), dtype=torch.int64)  # what is asked of them is their scores alone
    labels = torch.from_numpy(store.labels[samples])
    found = linear((known, labels), (features, unlabelled), len(names), recipe.evaluation, recipe.training.seed)
    return Classes(names, found.scores.numpy())


def _described_clips(run: Path) -> tuple[str, int, int, str] | None:
    """Layout, persons, channels and units as the encoder's file says them; None where it does not."""
    try:
        with safe_open(run / ENCODER, "pt") as file:
            data = json.loads((file.metadata() or {}).get("skelssl", "{}"))
        return data["skeleton"], int(data["persons"]), int(data["channels"]), str(data["units"])
    except LookupError:
        return None
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise EvaluationError(f"{run / ENCODER}: cannot be read: {error}") from None


def _first_reason(history: History) -> str:
    return next((f"{names[0]}: {reason}" for reason, names in history.left_out.items()), "no frames")
