"""A store and a recipe that train in seconds."""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from skelssl.data.store import Header, Store, open_store
from skelssl.data.writer import write_store
from skelssl.engine.recipe import EncoderOptions, EvaluationOptions, Recipe, TrainingOptions
from skelssl.methods.pstl import PSTLOptions

RECIPE = Recipe(
    dataset="tiny",
    preprocessing="raw",
    encoder=EncoderOptions(hidden_channels=4, feature_dim=16),
    pstl=PSTLOptions(frames=12, masked_frames=2, projector=16, masked_joints=6),
    training=TrainingOptions(epochs=4, batch_size=8, warmup_epochs=1, checkpoint_every=1, learning_rate=1e-3),
    evaluation=EvaluationOptions(
        linear_epochs=20, initialisations=2, neighbours=(1, 5), validation=(("view1", "view2"), ("view2", "view1"))
    ),
)


def make_store(path: Path) -> Store:
    """48 sequences of 3 classes, each a pose of its own that swings; 6 test samples are copies of training samples."""
    generator = np.random.default_rng(0)
    poses = generator.normal(size=(3, 1, 1, 20, 3))
    labels = np.arange(48) % 3
    sequences = []
    for label in labels:
        frames = int(generator.integers(8, 20))
        swing = np.sin(np.linspace(0, 6, frames))[:, None, None, None] * generator.normal(size=(1, 1, 20, 3)) * 0.2
        sequences.append(poses[label] + swing + 0.3 * generator.normal(size=(frames, 1, 20, 3)))
    splits = {"train": np.arange(24), "view1": np.arange(12), "view2": np.arange(12, 24), "test": np.arange(24, 48)}
    for copy in range(24, 30):
        sequences[copy] = sequences[copy - 24]
    splits["test_unseen"] = np.arange(30, 48)
    names = [f"s{number:02d}" for number in range(48)]
    header = Header("tiny", "nw_ucla20", "raw", "metres", ["a", "b", "c"], names)
    return write_store(path, header, sequences, {"labels": labels}, splits)


def write_run(folder: Path, recipe: Recipe, store: Store) -> Path:
    """A run as pre-training leaves it, of an encoder with fresh weights."""
    from safetensors.torch import save_file

    from skelssl.engine.build import build_method

    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(recipe.as_data()))
    (folder / "run.json").write_text(json.dumps({"data_path": str(store.path)}))
    weights = build_method(recipe, store).encoder.state_dict()
    save_file({name: tensor.clone() for name, tensor in weights.items()}, folder / "encoder.safetensors")
    return folder


def main() -> None:
    """`python tiny.py STORE OUT EPOCHS [STOP]`: trains or resumes, as a process that can be killed.

    With STOP, it waits when the data of checkpoint number STOP are written but not yet in their place.
    """
    from skelssl.engine.pretrain import pretrain

    store, out, epochs, *stop = sys.argv[1:]
    if stop:
        _wait_before(f"checkpoint-{int(stop[0]):06d}.pt")
    recipe = replace(RECIPE, training=replace(RECIPE.training, epochs=int(epochs)))
    pretrain(recipe, open_store(store), Path(out), resume=True)


def _wait_before(name: str) -> None:
    move = os.replace

    def slow_move(source: Path, target: Path) -> None:
        if Path(target).name == name:
            time.sleep(60)
        move(source, target)

    os.replace = slow_move  # type: ignore[assignment]


if __name__ == "__main__":
    main()
