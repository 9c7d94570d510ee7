import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import RECIPE

from skelssl.engine.build import build_encoder
from skelssl.protocols import health
from skelssl.protocols.features import encode
from skelssl.protocols.health import Watch, effective_rank, probe_samples


def test_effective_rank_counts_directions():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(20, 5, generator=generator)).Q
    spread = torch.linalg.qr(torch.randn(200, 5, generator=generator)).Q
    spread -= spread.mean(dim=0)
    assert effective_rank(3 + spread @ basis.t()) == pytest.approx(5, abs=0.05)
    assert effective_rank(3 + spread[:, :1] @ basis[:, :1].t()) == pytest.approx(1, abs=0.01)
    assert effective_rank(torch.ones(50, 20)) == 0
    assert effective_rank(torch.zeros(1, 3)) == 0


def test_the_probe_takes_training_samples_alone(store):
    samples = store.select("train")
    gallery, held_out = probe_samples(samples, store.labels, seed=0)
    assert sorted([*gallery, *held_out]) == samples.tolist()
    assert np.bincount(store.labels[held_out]).tolist() == [2, 2, 2]


def test_large_sets_are_probed_in_part():
    labels = np.arange(8000) % 10
    gallery, held_out = probe_samples(np.arange(8000), labels, seed=0)
    assert (len(gallery), len(held_out)) == (1020, 260)


def test_what_is_watched(store):
    watch, encoder = Watch(RECIPE, store), build_encoder(RECIPE, store)
    assert set(watch.epoch(encoder, 0)) == {"feature_std", "effective_rank"}
    last = watch.epoch(encoder, RECIPE.training.epochs - 1)
    known, unseen = (encode(encoder, RECIPE, store, part) for part in (watch.gallery, watch.held_out))
    similarity = torch.nn.functional.normalize(unseen) @ torch.nn.functional.normalize(known).t()
    right = store.labels[watch.gallery][similarity.argmax(dim=1)] == store.labels[watch.held_out]
    assert last["knn_probe"] == pytest.approx(100 * right.mean())


@pytest.mark.filterwarnings("ignore:the features are collapsing")
def test_no_probe_where_nothing_can_be_held_out(store):
    one_of_each = store.select("train")[[np.argmax(store.labels[store.select("train")] == c) for c in range(3)]]
    watch = Watch(RECIPE, replace(store, splits={**store.splits, "train": one_of_each}))
    assert set(watch.epoch(build_encoder(RECIPE, store), RECIPE.training.epochs - 1)) == {
        "feature_std",
        "effective_rank",
    }


def test_a_collapse_along_a_line_warns_once(store, monkeypatch):
    watch, line = Watch(RECIPE, store), torch.linspace(-1, 1, 24)[:, None] * torch.ones(1, 16)
    monkeypatch.setattr(health, "encode", lambda *_: line)
    with pytest.warns(UserWarning, match=r"epoch 2: 24 sequences vary along 1 directions \(effective_rank\)"):
        watch.epoch(torch.nn.Identity(), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch.epoch(torch.nn.Identity(), 2)
