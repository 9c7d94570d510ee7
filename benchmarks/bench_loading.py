"""Batches of PSTL's augmented views as pre-training makes them, against a DataLoader that augments sample by sample."""

import random
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from race import AGREEMENT, OURS, Case, relative_error
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from skelssl import skeletons
from skelssl.data.loading import ResidentSequences
from skelssl.engine.pretrain import batches
from skelssl.engine.recipe import TrainingOptions
from skelssl.methods.pstl import PSTL, PSTLOptions
from skelssl.views.augment import cropped, degrees, rotation_matrices, sample_views, shear_matrices
from skelssl.views.draws import Draws

SKELETON = skeletons.get("ntu25")
OPTIONS = PSTLOptions(projector=1)
VIEWS, FRAMES, JOINTS, PERSONS = 3, OPTIONS.frames, SKELETON.num_joints, 2
MIRRORED = list(SKELETON.mirror_order)


@dataclass(frozen=True)
class Parameters:
    """What the augmentation of one view draws: first frame of the padded sequence, shear (3, 3), angles in degrees."""

    start: int
    shear: np.ndarray
    angles: tuple[float, ...]
    flip: bool


def draw() -> Parameters:
    """One view's parameters by Python's generator, as loaders of the field draw them."""
    main = random.randint(0, 2)
    bounds = (OPTIONS.main_angle if axis == main else OPTIONS.other_angle for axis in range(3))
    angles = tuple(random.uniform(0, bound) for bound in bounds)
    start = random.randint(0, 2 * (FRAMES // OPTIONS.crop_ratio))
    shear = np.eye(3)
    shear[~np.eye(3, dtype=bool)] = [random.uniform(-OPTIONS.shear, OPTIONS.shear) for _ in range(6)]
    return Parameters(start, shear, angles, random.random() < OPTIONS.flip)


def rotated(points: np.ndarray, axis: int, degrees: float) -> np.ndarray:
    """Row vectors turned about one axis."""
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    turn = np.eye(3)
    first, second = [other for other in range(3) if other != axis]
    turn[first, first] = turn[second, second] = cosine
    turn[first, second], turn[second, first] = (sine, -sine) if axis == 1 else (-sine, sine)
    return points @ turn


def augmented(clip: np.ndarray, chosen: Parameters) -> np.ndarray:
    """(C, T, V, M) cropped out of a mirrored border, sheared, turned about x, y and z, and its sides exchanged."""
    padding = FRAMES // OPTIONS.crop_ratio
    padded = np.concatenate((clip[:, :padding][:, ::-1], clip, clip[:, -padding:][:, ::-1]), axis=1)
    points = padded[:, chosen.start : chosen.start + FRAMES].transpose(1, 2, 3, 0) @ chosen.shear
    for axis, angle in enumerate(chosen.angles):
        points = rotated(points, axis, angle)
    clip = points.transpose(3, 0, 1, 2)
    return clip[:, :, MIRRORED] if chosen.flip else clip


class Views(Dataset[list[np.ndarray]]):
    """Three augmented views of each clip (N, C, T, V, M)."""

    def __init__(self, clips: np.ndarray):
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, sample: int) -> list[np.ndarray]:
        return [augmented(self.clips[sample], draw()).astype(np.float32) for _ in range(VIEWS)]


class Loader:
    """A DataLoader's pass over all clips; nothing of it is left to do when the pass is over."""

    def __init__(self, clips: np.ndarray, batch: int, workers: int):
        self.loader = DataLoader(
            Views(clips), batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
        )

    def views(self) -> Tensor:
        """The views of the last batch."""
        for views in self.loader:
            last = views
        return torch.stack(last)


class Resident:
    """The same pass as pre-training makes it: frames in memory, one call for the views of a batch."""

    def __init__(self, clips: np.ndarray, batch: int):
        frames = torch.from_numpy(np.ascontiguousarray(clips.transpose(0, 2, 4, 3, 1))).flatten(0, 1)
        self.sequences = ResidentSequences(frames, torch.arange(len(clips) + 1) * FRAMES)
        self.options = TrainingOptions(batch_size=batch)
        self.samples = torch.arange(len(clips))
        self.method = PSTL(NoEncoder(), SKELETON, OPTIONS)
        self.epoch = 0

    def views(self) -> Tensor:
        """The views of the last batch."""
        draws = Draws(0, self.epoch)
        steps = list(batches(self.options, self.samples, self.epoch))
        self.epoch += 1
        for batch in self.sequences.batches(steps):
            last = self.method.augmented_views(batch, draws, batch.samples)
        return torch.stack(last)


class NoEncoder(torch.nn.Module):
    """What the method needs of an encoder before it makes views."""

    feature_dim = 1


def check_same_parameters(clips: np.ndarray, resident: Resident) -> None:
    """Raises where the same parameters do not give the same views, one sample and one step at a time or all at once."""
    drawn = [draw() for _ in clips]
    expected = np.stack([augmented(clip, chosen) for clip, chosen in zip(clips, drawn, strict=True)])
    off_diagonal = ~np.eye(3, dtype=bool)
    shear = torch.tensor(np.stack([chosen.shear[off_diagonal] for chosen in drawn]), dtype=torch.float32)
    start = torch.tensor([[chosen.start - FRAMES // OPTIONS.crop_ratio] for chosen in drawn], dtype=torch.float32)
    flips = torch.tensor([[chosen.flip] for chosen in drawn])
    batch = next(resident.sequences.batches([resident.samples]))
    plan = replace(
        cropped(batch.lengths, FRAMES, start),
        linear=shear_matrices(shear) @ rotation_matrices(degrees(torch.tensor([chosen.angles for chosen in drawn]))),
        joint_order=torch.where(flips, torch.tensor(MIRRORED), torch.arange(JOINTS)),
    )
    error = relative_error(sample_views(batch, [plan], OPTIONS.stream, SKELETON)[0], torch.from_numpy(expected))
    if not error <= AGREEMENT:
        raise RuntimeError(f"the same parameters give other views, relative error {error:.2g}")


def make_inputs(clips: int, batch: int) -> tuple[Loader, Loader, Resident]:
    random.seed(0)
    torch.manual_seed(0)  # workers are seeded from it
    data = np.random.default_rng(0).normal(size=(clips, 3, FRAMES, JOINTS, PERSONS)).astype(np.float32)
    resident = Resident(data, batch)
    check_same_parameters(data, resident)
    return Loader(data, batch, 0), Loader(data, batch, 2), resident


def case(clips: int, batch: int, sizes: str = "standard") -> Case:
    floats = VIEWS * clips * 3 * FRAMES * JOINTS * PERSONS
    functions = {
        "official": lambda alone, workers, resident: alone.views(),
        "2 workers": lambda alone, workers, resident: workers.views(),
        OURS: lambda alone, workers, resident: resident.views(),
    }
    return Case(
        f"{clips // batch} batches of {batch}, {VIEWS} views",
        functions,
        partial(make_inputs, clips, batch),
        8 * floats,  # interpolation and three products a coordinate
        8 * floats,
        sizes=sizes,
        random=True,
    )


CASES = [case(64, 64, sizes="smoke"), case(2048, 128)]


def test_loading(compare, case):
    compare(case)
