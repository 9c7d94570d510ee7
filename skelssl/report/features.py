"""Sections about features: the plane, and what lies nearest."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from skelkern import cosine_topk
from skelssl.data.store import Store
from skelssl.engine.pretrain import ENCODER
from skelssl.protocols.context import load_run, open_context
from skelssl.protocols.features import encode
from skelssl.report.animation import animated_clip
from skelssl.report.charts import class_legend, scatter
from skelssl.report.clip import sample_clip
from skelssl.report.embedding import principal_components, tsne
from skelssl.report.pieces import figure, grid, paragraph, per_run
from skelssl.report.source import RunData

MOST_MAPPED, MOST_SEARCHED = 500, 4000
QUERIES, NEIGHBOURS = 5, 4
PERPLEXITY = 30.0


@dataclass(frozen=True)
class Features:
    """Features of a run on the splits of its results.

    Attributes:
        run, store: which they are of.
        samples: of the training split and of the test split, evenly drawn where there are more than the report shows.
        values: (S, F) of each.
        told: what they are of, in words.
    """

    run: RunData
    store: Store
    samples: tuple[np.ndarray, np.ndarray]
    values: tuple[Tensor, Tensor]
    told: str


def features_of(run: RunData) -> Features | None:
    """By the trained encoder on the CPU; None where the run is not evaluated, or its encoder or data are not there.

    Raises:
        EvaluationError: the encoder is damaged.
        StoreError: the store has no such splits.
    """
    store, splits = run.store, run.splits
    if store is None or splits is None or not (run.path / ENCODER).is_file():
        return None
    recipe = load_run(run.path, store)
    encoder = open_context(run.path, store, *splits, recipe).trained_encoder()
    everything = [store.select(split) for split in splits]
    known, unseen = (evenly(part, most) for part, most in zip(everything, (MOST_SEARCHED, MOST_MAPPED), strict=True))
    values = encode(encoder, recipe, store, known), encode(encoder, recipe, store, unseen)
    told = (
        f"Frozen features of the trained encoder, {store.header.dataset} ({store.header.preprocessing}); "
        f"{_of(unseen, everything[1])} sequences of {splits[1]}; pre-trained on {recipe.training.split}; "
        f"last epoch, seed {recipe.training.seed}"
    )
    return Features(run, store, (known, unseen), values, told)


def evenly(samples: np.ndarray, most: int) -> np.ndarray:
    """At most so many samples at even distances."""
    if len(samples) <= most:
        return samples
    return samples[np.linspace(0, len(samples) - 1, most).round().astype(int)]


def _of(part: np.ndarray, whole: np.ndarray) -> str:
    return str(len(whole)) if len(part) == len(whole) else f"{len(part)} of {len(whole)}"


def maps(found: Sequence[Features]) -> str:
    """Test features along their principal components, and by t-SNE."""
    return per_run([each.run.name for each in found], [_maps(each) for each in found])


def _maps(found: Features) -> str:
    values, labels = found.values[1], found.store.labels[found.samples[1]]
    if len(values) < 4:
        return ""
    places, shares = principal_components(values)
    title = f"Principal components, {100 * float(shares.sum()):.0f} % of variance"
    perplexity = min(PERPLEXITY, (len(values) - 1) / 3)
    pictures = [
        f"<figure>{scatter(title, places.numpy(), labels)}</figure>",
        f"<figure>{scatter(f't-SNE, perplexity {perplexity:.0f}', tsne(values).numpy(), labels)}</figure>",
    ]
    note = f"{found.told}. A mark is a test sequence, by its true class. Distances between t-SNE's groups mean nothing."
    return paragraph(note, "soft") + class_legend(found.store.header.class_names, labels) + grid("maps", pictures)


def retrievals(found: Sequence[Features]) -> str:
    """For one test sequence of some classes, the training sequences of most similar features."""
    queries = max(2, QUERIES // max(len(found), 1))
    return per_run([each.run.name for each in found], [_retrievals(each, queries) for each in found])


def _retrievals(found: Features, most: int) -> str:
    store, (known, unseen), (database, queries) = found.store, found.samples, found.values
    _, first = np.unique(store.labels[unseen], return_index=True)
    chosen = evenly(first, most)
    count = min(NEIGHBOURS, len(known))
    similarity, index = cosine_topk(queries[chosen], database, count)
    rows = []
    for place, scores, nearest in zip(chosen, similarity.tolist(), known[index.numpy()], strict=True):
        label = store.labels[unseen[place]]
        clips = [_shown(store, int(unseen[place]), "test sequence")]
        for score, sample in zip(scores, nearest, strict=True):
            right = bool(store.labels[sample] == label)
            mark = f'<span class="{"right" if right else "wrong"}">{"✓" if right else "✗"}</span> '
            clips.append(_shown(store, int(sample), f"similarity {score:.3f}", mark))
        rows.append(grid("row", clips))
    assert found.run.splits is not None
    searched = _of(known, store.select(found.run.splits[0]))
    note = (
        f"{found.told}. On the left the first test sequence of a class, chosen without looking at results; then the "
        f"nearest of {searched} sequences of {found.run.splits[0]} by cosine similarity. ✓: of the same class."
    )
    return paragraph(note, "soft") + "".join(rows)


def _shown(store: Store, sample: int, details: str, mark: str = "") -> str:
    clip = sample_clip(store, sample)
    return figure(animated_clip(clip), clip.title, f"{details}, {Path(clip.details[0]).name}", mark)
