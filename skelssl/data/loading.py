"""Batches of sequences on a device: frames stay there where they fit, and are streamed where they do not.

Either way a batch is a `SequenceBatch` whose samples are numbered as in the store, and what is computed from it is
bitwise the same.
"""

import math
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from skelssl.data.store import Store
from skelssl.views.augment import SequenceBatch

LOADINGS = ("auto", "resident", "streamed")
FRAME_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
RESIDENT_SHARE = 0.5  # of a device's free memory that frames may take: the model needs the rest
AHEAD = 2  # batches that are read before they are asked for
MOVED_TOGETHER = 256  # sequences that pass through the host's memory at once on their way to a device


class Sequences(Protocol):
    """Sequences of a store, ready to be batched on a device."""

    def batches(self, steps: Sequence[Tensor]) -> Iterator[SequenceBatch]:
        """The batches of `steps`, each (B) int64 samples of the store on the CPU, in this order.

        Raises:
            ValueError: a sample is not among the sequences.
        """
        ...


@dataclass(frozen=True)
class ResidentSequences:
    """All frames on one device.

    Attributes:
        frames: (F, M, V, C) frames of the sequences, one after the other.
        offsets: (P + 1) int64 first frame of each sequence.
        places: (S) int64 on the CPU: which of them is each of the store's samples, -1 where it is none; None where they
            are the store's, in its order.
    """

    frames: Tensor
    offsets: Tensor
    places: Tensor | None = None

    def batches(self, steps: Sequence[Tensor]) -> Iterator[SequenceBatch]:
        """See `Sequences`; the numbers of all batches are moved to the device together."""
        if not steps:
            return
        samples, sizes = torch.cat(list(steps)), [len(step) for step in steps]
        known = len(self.offsets) - 1 if self.places is None else len(self.places)
        _check_samples(samples, known)
        numbers = samples.to(self.frames.device).split(sizes)
        if self.places is None:
            for own in numbers:
                yield SequenceBatch(self.frames, self.offsets, own)
            return
        places = self.places[samples]
        if (places < 0).any():
            raise ValueError(f"samples: expected those that were loaded, found {samples[places < 0][0].item()}")
        for own, there in zip(numbers, places.to(self.frames.device).split(sizes), strict=True):
            yield SequenceBatch(self.frames, self.offsets, own, there)


class StreamedSequences:
    """Frames that are read from the store's map batch by batch, by a thread that runs ahead.

    On a GPU they pass through pinned memory and are copied on a stream of their own, while the GPU works on the batches
    before. At most `ahead` + 2 batches are held at once.

    Args:
        store: the data set.
        device: where batches are wanted.
        dtype: of their frames.
        ahead: batches that are read before they are asked for.
    """

    def __init__(self, store: Store, device: torch.device, dtype: torch.dtype = torch.float32, ahead: int = AHEAD):
        if ahead < 0:
            raise ValueError(f"ahead: expected at least 0, found {ahead}")
        self.store, self.device, self.dtype, self.ahead = store, device, dtype, ahead
        self.copies = torch.cuda.Stream(device) if device.type == "cuda" else None

    def batches(self, steps: Sequence[Tensor]) -> Iterator[SequenceBatch]:
        """See `Sequences`; what fails in the thread is raised here, and leaving early ends the thread."""
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="skelssl-frames")
        pending: deque[Future[_Read]] = deque()
        try:
            for samples in steps:
                pending.append(thread.submit(self._read, samples))
                if len(pending) > self.ahead:
                    yield self._batch(pending.popleft().result())
            while pending:
                yield self._batch(pending.popleft().result())
        finally:
            thread.shutdown(wait=True, cancel_futures=True)

    def _read(self, samples: Tensor) -> "_Read":
        """In the thread: a batch's frames, offsets and samples on their way to the device."""
        with self._beside():
            frames, offsets = gather_frames(self.store, samples, pinned=self.copies is not None)
            arrays = (frames, offsets, samples)
            moved = tuple(array.to(self.device, non_blocking=True) for array in arrays)
            return _Read(moved, None if self.copies is None else self.copies.record_event())

    def _beside(self) -> AbstractContextManager[object]:
        return nullcontext() if self.copies is None else torch.cuda.stream(self.copies)

    def _batch(self, read: "_Read") -> SequenceBatch:
        """In the caller's thread: what was read, for the work that the caller queues from now on."""
        if read.copied is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(read.copied)
            for array in read.arrays:
                array.record_stream(current)
        frames, offsets, samples = read.arrays
        return SequenceBatch(frames.to(self.dtype), offsets, samples, torch.arange(len(samples), device=self.device))


@dataclass(frozen=True)
class _Read:
    """Frames, offsets and samples of one batch, and the end of their copy to a GPU."""

    arrays: tuple[Tensor, ...]
    copied: torch.cuda.Event | None


def load_sequences(
    store: Store,
    samples: np.ndarray,
    device: torch.device,
    loading: str = "auto",
    frame_type: str = "float32",
    ahead: int = AHEAD,
) -> Sequences:
    """Sequences of a store for many passes over them.

    On a CPU, float32 frames are the store's map itself: nothing is read before it is needed and nothing is copied.

    Args:
        store: the data set.
        samples: (P) int64, those that will be asked for.
        device: where batches are wanted.
        loading: "resident": frames are moved to the device once; "streamed": with every batch; "auto": resident where
            they take at most half of the device's free memory.
        frame_type: "float32" or "bfloat16", half the memory, rounded to a 256th (4 mm at 1 m).
        ahead: batches that are read before they are asked for, when streamed.

    Raises:
        ValueError: an option is not as listed, a sample is not in the store, or "resident" frames do not fit.
    """
    if loading not in LOADINGS:
        raise ValueError(f"loading: expected one of {', '.join(LOADINGS)}, found {loading!r}")
    if frame_type not in FRAME_TYPES:
        raise ValueError(f"frame_type: expected one of {', '.join(FRAME_TYPES)}, found {frame_type!r}")
    dtype = FRAME_TYPES[frame_type]
    numbers = torch.from_numpy(np.unique(samples))
    _check_samples(numbers, len(store))
    if loading == "streamed":
        return StreamedSequences(store, device, dtype, ahead)
    if device.type == "cpu" and dtype == torch.float32:
        return mapped_sequences(store)
    lengths = torch.from_numpy(np.diff(store.offsets))[numbers]
    needed, free = int(lengths.sum()) * math.prod(store.frames.shape[1:]) * dtype.itemsize, _free_bytes(device)
    if loading == "auto" and needed > RESIDENT_SHARE * free:
        return StreamedSequences(store, device, dtype, ahead)
    if needed > free:
        found = f"{needed / 2**30:.3g} GiB of {frame_type} frames"
        raise ValueError(
            f"loading: expected at most {free / 2**30:.3g} GiB free on {device}, found {found}; stream them"
        )
    return _moved(store, numbers, lengths, device, dtype)


def sequences_for_one_pass(store: Store, device: torch.device) -> Sequences:
    """Sequences of a store that are read once: the map itself on a CPU, streamed elsewhere."""
    return mapped_sequences(store) if device.type == "cpu" else StreamedSequences(store, device)


def mapped_sequences(store: Store) -> ResidentSequences:
    """All sequences of a store as they lie in its map, on the CPU."""
    return ResidentSequences(torch.from_numpy(np.asarray(store.frames)), torch.from_numpy(store.offsets))


def gather_frames(store: Store, samples: Tensor, pinned: bool = False) -> tuple[Tensor, Tensor]:
    """Frames (F, M, V, C) of samples (P), one after the other, and their offsets (P + 1); on the CPU.

    Raises:
        ValueError: a sample is not in the store.
    """
    _check_samples(samples, len(store))
    first, end = (store.offsets[samples.numpy() + shift] for shift in (0, 1))
    offsets = np.concatenate(([0], np.cumsum(end - first)))
    source = np.asarray(store.frames)  # slices of a map are slow to make
    frames = torch.empty((int(offsets[-1]), *source.shape[1:]), pin_memory=pinned)
    if len(samples) > 0:
        np.concatenate([source[a:b] for a, b in zip(first.tolist(), end.tolist(), strict=True)], out=frames.numpy())
    return frames, torch.from_numpy(offsets)


def _moved(
    store: Store, samples: Tensor, lengths: Tensor, device: torch.device, dtype: torch.dtype
) -> ResidentSequences:
    """Sequences of samples copied to a device, some at a time."""
    offsets = torch.cat((lengths.new_zeros(1), lengths.cumsum(0)))
    frames = torch.empty((int(offsets[-1]), *store.frames.shape[1:]), dtype=dtype, device=device)
    for start in range(0, len(samples), MOVED_TOGETHER):
        part, _ = gather_frames(store, samples[start : start + MOVED_TOGETHER])
        first = int(offsets[start])
        frames[first : first + len(part)].copy_(part)
    places = torch.full((len(store),), -1)
    places[samples] = torch.arange(len(samples))
    return ResidentSequences(frames, offsets.to(device), places)


def _check_samples(samples: Tensor, count: int) -> None:
    wrong = samples[(samples < 0) | (samples >= count)]
    if len(wrong) > 0:
        raise ValueError(f"samples: expected numbers in [0, {count}), found {wrong[0].item()}")


def _free_bytes(device: torch.device) -> float:
    """Free memory of a device; endless where nothing says."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "cpu" and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return math.inf
