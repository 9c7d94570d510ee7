"""How hard a data set is: a linear layer on raw coordinates beside a supervised ST-GCN."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import skelkern
from skelssl import skeletons
from skelssl.data.store import Store, open_store
from skelssl.encoders.stgcn import STGCN
from skelssl.engine.pretrain import reused_memory
from skelssl.engine.recipe import EvaluationOptions
from skelssl.protocols.classify import linear, standardised
from skelssl.skeletons import Skeleton
from skelssl.views.augment import SequenceBatch, ViewPlan, degrees, rotation_matrices, sample_views, whole_sequence
from skelssl.views.draws import Draws

FRAMES = 50  # that the linear layer sees
CLIP, BATCH, RATE = 48, 32, 5e-3  # frames of the ST-GCN's clips, samples of a step, learning rate
TILT, TURN = 5.0, 180.0  # degrees by which training clips are turned: about x and y, and about z, upwards after `agcn`
CROP = 0.8  # of a sequence, what training clips show at least


def linear_accuracy(store: Store, train: np.ndarray, test: np.ndarray, seed: int = 0) -> float:
    """Percent of `test` that a linear layer on standardised coordinates of FRAMES resampled frames classifies."""
    features = [_plain(store, part, FRAMES).flatten(1) for part in (train, test)]
    scaled = standardised(tuple(features))
    labels = [torch.from_numpy(store.labels[part]) for part in (train, test)]
    options = EvaluationOptions(linear_epochs=60, linear_learning_rate=1e-3)
    found = linear((scaled[0], labels[0]), (scaled[1], labels[1]), len(store.header.class_names), options, seed)
    return 100 * (found.last == labels[1]).double().mean().item()


def stgcn_accuracy(
    store: Store, train: np.ndarray, test: np.ndarray, *, epochs: int = 30, hidden: int = 16, seed: int = 0
) -> float:
    """Percent of `test` that an ST-GCN classifies which was trained with labels on turned, mirrored and cropped clips.

    Adam with a rate that rises for a tenth of the steps and falls to 0, batches of 32.
    """
    skeleton, classes = skeletons.get(store.header.skeleton), len(store.header.class_names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = STGCN(skeleton, in_channels=3, hidden_channels=hidden, feature_dim=8 * hidden, dropout=0.1)
        model = Classifier(encoder, classes)
        with reused_memory():
            _fit(model, store, train, skeleton, epochs, seed)
    model.eval()
    labels = torch.from_numpy(store.labels[test])
    with torch.no_grad():
        predicted = torch.cat([model(clips).argmax(dim=1) for clips in _plain(store, test, CLIP).split(BATCH)])
    return 100 * (predicted == labels).double().mean().item()


class Classifier(nn.Module):
    """An encoder of the persons that are there, whose features are averaged, and a linear layer."""

    def __init__(self, encoder: STGCN, classes: int):
        super().__init__()
        self.encoder, self.linear = encoder, nn.Linear(encoder.feature_dim, classes)

    def forward(self, clips: Tensor) -> Tensor:
        """(N, C, T, V, M) -> (N, classes); absent persons are zero throughout."""
        persons = clips.permute(0, 4, 1, 2, 3)
        there = persons.flatten(2).any(dim=2)
        features = self.encoder(persons[there].unsqueeze(-1))
        sums = features.new_zeros(len(clips), features.shape[1]).index_add(0, there.nonzero()[:, 0], features)
        return self.linear(sums / there.sum(dim=1, keepdim=True))


def _fit(model: nn.Module, store: Store, train: np.ndarray, skeleton: Skeleton, epochs: int, seed: int) -> None:
    frames, offsets, samples = (torch.from_numpy(np.asarray(a)) for a in (store.frames, store.offsets, train))
    labels = torch.from_numpy(store.labels)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    steps = epochs * (len(train) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
    model.train()
    for epoch in range(epochs):
        draws = Draws(seed, epoch)
        order = samples[draws.permutation("difficulty", "order", len(samples))]
        for chosen in order[: len(order) // BATCH * BATCH].split(BATCH):
            batch = SequenceBatch(frames, offsets, chosen)
            clips = sample_views(batch, [_training_view(batch, draws, skeleton)], "joint", skeleton)[0]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(clips), labels[chosen]).backward()
            optimizer.step()
            schedule.step()


def _training_view(batch: SequenceBatch, draws: Draws, skeleton: Skeleton) -> ViewPlan:
    """Turned, every second one mirrored, and a part of the sequence resized to CLIP frames."""
    shares, starts = draws.uniform(batch.samples, "train", "crop", (2,)).unbind(dim=1)
    lengths = batch.lengths
    kept = (lengths * (CROP + (1 - CROP) * shares)).long().clamp(min=1)
    first = ((lengths - kept + 1) * starts).long()
    times = skelkern.resize_times(first, kept, CLIP)
    most = torch.tensor([TILT, TILT, TURN])
    angles = most * draws.uniform(batch.samples, "train", "turn", (3,), -1.0, 1.0)
    mirrored = draws.integers(batch.samples, "train", "mirror", 2)[:, None] == 1
    order = torch.where(mirrored, torch.tensor(skeleton.mirror_order), torch.arange(skeleton.num_joints))
    across = torch.where(mirrored, torch.tensor([-1.0, 1.0, 1.0]), torch.ones(3))
    linear = torch.diag_embed(across) @ rotation_matrices(degrees(angles))
    return ViewPlan(times, times, linear=linear, joint_order=order)


def _plain(store: Store, samples: np.ndarray, length: int) -> Tensor:
    """(S, C, T, V, M) whole sequences resized to `length` frames."""
    frames, offsets, chosen = (torch.from_numpy(np.asarray(a)) for a in (store.frames, store.offsets, samples))
    batch = SequenceBatch(frames, offsets, chosen)
    plan = whole_sequence(batch.lengths, length)
    return sample_views(batch, [plan], "joint", skeletons.get(store.header.skeleton))[0]


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m skelssl.protocols.difficulty STORE`: both accuracies on a split."""
    parser = argparse.ArgumentParser(prog="python -m skelssl.protocols.difficulty", description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--split", default="xsub", help="of <split>_train and <split>_test")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    store = open_store(options.store)
    train, test = (store.select(f"{options.split}_{half}") for half in ("train", "test"))
    described = f"{len(store.header.class_names)} classes, {len(train)} training and {len(test)} test samples"
    print(f"{store.path}: {described} of {options.split}, seed {options.seed}")
    found = linear_accuracy(store, train, test, options.seed)
    print(f"linear layer on {FRAMES} resampled frames of coordinates: {found:.1f} %", flush=True)
    found = stgcn_accuracy(store, train, test, epochs=options.epochs, seed=options.seed)
    print(f"ST-GCN, {options.epochs} epochs with labels: {found:.1f} %")


if __name__ == "__main__":
    main()
