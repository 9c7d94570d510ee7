"""Sections of moving skeletons: augmentations, and one sequence of each class."""

from collections.abc import Sequence

import numpy as np

from skelssl.data.store import Store
from skelssl.report.animation import animated_clip
from skelssl.report.clip import augmented, sample_clip
from skelssl.report.features import evenly
from skelssl.report.pieces import figure, grid, paragraph
from skelssl.report.source import RunData

MOST_CLASSES = 10
CONTRAST = ("crop-resize", "shear", "lost-joints", "jitter", "isc")
# What the views of each method are made of (`skelssl.views.augmentations`).
SHOWN = {
    "pstl": ("crop", "shear", "rotation", "flip", "pstl", "pstl-matm", "pstl-csm"),
    "hico": CONTRAST,
    "isc": CONTRAST,
    "scc": ("vertical-rotation", "masked-points", "masked-frames", "masked-joints"),
}


def augmentations(runs: Sequence[RunData]) -> str:
    """One training sequence as the augmentations of the runs' methods make it."""
    shown = []
    for method in dict.fromkeys(run.config["method"] for run in runs if run.store is not None):
        run = next(run for run in runs if run.config["method"] == method and run.store is not None)
        if method in SHOWN and run.store is not None and run.store.frames.shape[3] >= 3:
            shown.append(_augmentations(run, run.store, SHOWN[method]))
    return "".join(shown)


def _augmentations(run: RunData, store: Store, names: Sequence[str]) -> str:
    split, seed = run.config["training"].get("split", "train"), int(run.config["training"].get("seed", 0))
    samples = store.select(split)
    if not len(samples):
        return ""
    clip = sample_clip(store, int(samples[len(samples) // 2]))
    views = [augmented(clip, name, seed) for name in names]
    note = (
        f"{clip.title}, {clip.details[0]}, of the split {split} of {store.header.dataset}, as the augmentations of "
        f"{run.method} make it, each as strong as in its paper, draws of seed {seed}. Limbs of lost "
        "joints are thin."
    )
    pictures = [figure(animated_clip(clip), "as stored")]
    pictures += [figure(animated_clip(view), name) for name, view in zip(names, views, strict=True)]
    return paragraph(note, "soft") + grid("clips", pictures)


def sequences(runs: Sequence[RunData]) -> str:
    """One sequence of each class of every data set."""
    stores: dict[str, Store] = {}
    for run in runs:
        if run.store is not None:
            stores.setdefault(str(run.store.path), run.store)
    return "".join(_sequences(store) for store in stores.values())


def _sequences(store: Store) -> str:
    present, first = np.unique(store.labels[store.labels >= 0], return_index=True)
    places = np.flatnonzero(store.labels >= 0)[first]
    chosen = evenly(np.arange(len(present)), MOST_CLASSES)
    which = "each class" if len(chosen) == len(present) else "some classes"
    counts = np.bincount(store.labels[store.labels >= 0])
    header = store.header
    note = (
        f"{header.dataset}: {len(store)} sequences of {len(header.class_names)} classes, skeleton {header.skeleton}, "
        f"preprocessing {header.preprocessing}. The first sequence of {which}."
    )
    pictures = []
    for place in chosen:
        clip = sample_clip(store, int(places[place]))
        pictures.append(figure(animated_clip(clip), clip.title, f"{counts[present[place]]} sequences"))
    return paragraph(note, "soft") + grid("clips", pictures)
