"""Linear and kNN results of a run, the untrained encoder beside the trained one."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from skelssl.data.store import Store
from skelssl.engine.build import build_encoder
from skelssl.engine.checkpoint import replace_file
from skelssl.engine.pretrain import CONFIG, ENCODER
from skelssl.engine.recipe import Recipe, recipe_from_data
from skelssl.protocols.bootstrap import paired_interval
from skelssl.protocols.classify import linear, nearest_neighbours, standardised
from skelssl.protocols.features import calibrate, encode

RESULTS, PREDICTIONS = "results.json", "predictions.npz"
PROTOCOLS = ("linear", "knn")


class EvaluationError(ValueError):
    """A run cannot be evaluated."""


@dataclass(frozen=True)
class Result:
    """One number with everything it depends on.

    Attributes:
        test: the test samples' split, `test_samples` of them.
        encoder: "trained", or "untrained" for the mean over several initialisations.
        epochs: "last", the headline, or "best" on the test samples; "" where nothing is trained.
        accuracy: top-1 in percent.
        gain: 95 % interval of trained minus untrained in percentage points, on the trained encoder's row.
    """

    dataset: str
    preprocessing: str
    method: str
    stream: str
    train: str
    test: str
    test_samples: int
    protocol: str
    k: int
    encoder: str
    seed: int
    epochs: str
    accuracy: float
    gain: tuple[float, float] | None = None


def load_run(run: Path, store: Store) -> Recipe:
    """The recipe of a finished run on a data set.

    Raises:
        EvaluationError: the folder holds no finished run, or one on other data.
    """
    for name in (CONFIG, ENCODER):
        if not (run / name).is_file():
            raise EvaluationError(f"{run}: expected a finished run, found no {name}")
    recipe = recipe_from_data(yaml.safe_load((run / CONFIG).read_text()))
    if store.header.dataset != recipe.dataset or store.header.preprocessing != recipe.preprocessing:
        found = f"{store.header.dataset!r}, {store.header.preprocessing!r}"
        raise EvaluationError(f"{store.path}: expected {recipe.dataset!r}, {recipe.preprocessing!r}, found {found}")
    return recipe


def evaluate(
    run: Path,
    store: Store,
    *,
    protocols: Sequence[str] = PROTOCOLS,
    train: str | None = None,
    test: str | None = None,
    out: Path | None = None,
) -> list[Result]:
    """Evaluates a run and writes results.json and predictions.npz.

    Args:
        run: folder of a finished run.
        store: its data set.
        protocols: "linear", "knn" or both.
        train: split that classifiers are trained on; by default the one of pre-training.
        test: split to test on; by default the recipe's.
        out: folder for the files; by default the run folder.

    Raises:
        EvaluationError: the run is not finished, or its encoder is damaged or of another data set; an unknown protocol.
    """
    if not protocols or not set(protocols) <= set(PROTOCOLS):
        raise EvaluationError(
            f"protocols: expected some of {', '.join(PROTOCOLS)}, found {', '.join(protocols) or '-'}"
        )
    recipe = load_run(run, store)
    train, test = train or recipe.training.split, test or recipe.evaluation.test
    samples = store.select(train), store.select(test)
    labels = tuple(torch.from_numpy(store.labels[part]) for part in samples)
    correct = {"trained": [_classify(recipe, store, protocols, run_features(recipe, store, run, samples), labels)]}
    correct["untrained"] = [
        _classify(recipe, store, protocols, _untrained_features(recipe, store, samples, number), labels)
        for number in range(recipe.evaluation.initialisations)
    ]
    means = {name: {key: np.mean([c[key] for c in each], axis=0) for key in each[0]} for name, each in correct.items()}
    results = _results(recipe, store, train, test, means)
    _write(out or run, results, means)
    return results


def run_features(recipe: Recipe, store: Store, run: Path, samples: tuple[np.ndarray, ...]) -> tuple[Tensor, ...]:
    """Features (S, F) of several parts of a data set by a run's encoder.

    Raises:
        EvaluationError: the encoder is damaged or of another data set.
    """
    with torch.random.fork_rng(devices=[]):
        encoder = build_encoder(recipe, store)
    try:
        encoder.load_state_dict(load_file(run / ENCODER))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise EvaluationError(f"{run / ENCODER}: cannot be read: {error}") from None
    return tuple(encode(encoder, recipe, store, part) for part in samples)


def _untrained_features(
    recipe: Recipe, store: Store, samples: tuple[np.ndarray, ...], number: int
) -> tuple[Tensor, ...]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1000 * (recipe.training.seed + 1) + number)
        encoder = build_encoder(recipe, store)
    calibrate(encoder, recipe, store, samples[0])
    return tuple(encode(encoder, recipe, store, part) for part in samples)


Key = tuple[str, int, str]  # protocol, k, epochs


def _classify(
    recipe: Recipe, store: Store, protocols: Sequence[str], features: tuple[Tensor, ...], labels: tuple[Tensor, ...]
) -> dict[Key, np.ndarray]:
    """Which test samples (S) are classified correctly, by protocol."""
    options, classes = recipe.evaluation, len(store.header.class_names)
    train, truth = (features[0], labels[0]), labels[1]
    correct: dict[Key, Tensor] = {}
    if "linear" in protocols:
        scaled = standardised(features) if options.standardise else features
        found = linear((scaled[0], labels[0]), (scaled[1], truth), classes, options, recipe.training.seed)
        correct = {("linear", 0, "last"): found.last == truth, ("linear", 0, "best"): found.best == truth}
    for k in options.neighbours if "knn" in protocols else ():
        correct["knn", k, ""] = nearest_neighbours(train, features[1], classes, k) == truth
    return {key: value.numpy().astype(np.float64) for key, value in correct.items()}


def _results(
    recipe: Recipe, store: Store, train: str, test: str, means: dict[str, dict[Key, np.ndarray]]
) -> list[Result]:
    parts = {test: np.arange(len(store.select(test)))}
    if f"{test}_unseen" in store.splits:
        parts[f"{test}_unseen"] = np.flatnonzero(np.isin(store.select(test), store.select(f"{test}_unseen")))
    results = []
    for split, chosen in parts.items():
        for encoder in ("untrained", "trained"):
            for (protocol, k, epochs), correct in means[encoder].items():
                gain = None
                if encoder == "trained":
                    gain = paired_interval(correct[chosen], means["untrained"][protocol, k, epochs][chosen])
                results.append(
                    Result(
                        dataset=recipe.dataset,
                        preprocessing=recipe.preprocessing,
                        method=f"{recipe.method}, official" if recipe.official else recipe.method,
                        stream=recipe.method_options.stream,
                        train=train,
                        test=split,
                        test_samples=len(chosen),
                        protocol=protocol,
                        k=k,
                        encoder=encoder,
                        seed=recipe.training.seed,
                        epochs=epochs,
                        accuracy=100 * float(correct[chosen].mean()),
                        gain=gain,
                    )
                )
    return results


def _write(out: Path, results: list[Result], means: dict[str, dict[Key, np.ndarray]]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    data = [dataclasses.asdict(result) for result in results]
    arrays = {
        f"{encoder} {protocol} {k} {epochs}".strip(): correct
        for encoder, by_protocol in means.items()
        for (protocol, k, epochs), correct in by_protocol.items()
    }
    replace_file(out / RESULTS, lambda partial: partial.write_text(json.dumps(data, indent=1)))

    def save(partial: Path) -> None:
        with partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    replace_file(out / PREDICTIONS, save)


def table(results: list[Result]) -> str:
    """The results as an aligned text table."""
    header = ("test", "samples", "protocol", "encoder", "top-1 %", "gain, 95 % interval")
    lines = [header]
    for result in results:
        protocol = f"{result.protocol}, k = {result.k}" if result.k else f"{result.protocol}, {result.epochs} epoch"
        gain = "" if result.gain is None else f"{result.gain[0]:+.1f} to {result.gain[1]:+.1f}"
        lines.append((result.test, str(result.test_samples), protocol, result.encoder, f"{result.accuracy:.1f}", gain))
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
