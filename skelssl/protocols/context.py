"""What protocols share: a run, its data, its encoders, and features that are computed once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from skelssl.data.store import Store
from skelssl.engine.build import build_encoder
from skelssl.engine.environment import commit, versions
from skelssl.engine.pretrain import CONFIG, ENCODER
from skelssl.engine.recipe import Recipe, recipe_from_data
from skelssl.protocols.bootstrap import interval, paired_interval
from skelssl.protocols.classify import LinearResult, linear_together, standardised
from skelssl.protocols.features import calibrate, encode
from skelssl.protocols.results import Result

ENCODERS = ("untrained", "trained")


class EvaluationError(ValueError):
    """A run cannot be evaluated."""


@dataclass
class Context:
    """A run on the splits it is evaluated on. Features stay in memory, nothing is cached on disk.

    Attributes:
        run: its folder.
        recipe: its recipe, whose evaluation options count.
        store: data set that is evaluated on, of the layout that the encoder takes.
        train, test: splits of labelled samples.
        pretrained_on: data set and split of pre-training.
        device: where encoders run.
        target, target_splits: another data set, and its splits (training, test), for transfer.
        predictions: arrays (S, ...) about the test samples that protocols leave for predictions.npz.
    """

    run: Path
    recipe: Recipe
    store: Store
    train: str
    test: str
    pretrained_on: str
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    target: Store | None = None
    target_splits: tuple[str, str] = ("train", "test")
    predictions: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        return len(self.store.header.class_names)

    @cached_property
    def samples(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the training and of the test split."""
        return self.store.select(self.train), self.store.select(self.test)

    @cached_property
    def labels(self) -> tuple[Tensor, Tensor]:
        """Of `samples`."""
        known, unseen = (torch.from_numpy(self.store.labels[part]) for part in self.samples)
        return known, unseen

    @cached_property
    def parts(self) -> dict[str, np.ndarray]:
        """Places of the test samples of each result: all, and those of `<test>_unseen` where a store has it."""
        parts = {self.test: np.arange(len(self.samples[1]))}
        unseen = f"{self.test}_unseen"
        if unseen in self.store.splits:
            parts[unseen] = np.flatnonzero(np.isin(self.samples[1], self.store.select(unseen)))
        return parts

    @cached_property
    def encoders(self) -> dict[str, list[nn.Module]]:
        """The trained encoder, and the untrained ones with calibrated batch-norm statistics; in evaluation mode.

        Raises:
            EvaluationError: the encoder is damaged or of another data set.
        """
        untrained = [self.untrained_encoder(number) for number in range(self.recipe.evaluation.initialisations)]
        return {"trained": [self.trained_encoder()], "untrained": untrained}

    def trained_encoder(self) -> nn.Module:
        """The run's encoder, a new one with every call.

        Raises:
            EvaluationError: the encoder is damaged or of another data set.
        """
        with torch.random.fork_rng(devices=[]):
            encoder = build_encoder(self.recipe, self.store)
        try:
            encoder.load_state_dict(load_file(self.run / ENCODER))
        except (SafetensorError, OSError, RuntimeError) as error:
            raise EvaluationError(f"{self.run / ENCODER}: cannot be read: {error}") from None
        return encoder.to(self.device).eval()

    def untrained_encoder(self, number: int) -> nn.Module:
        """A fresh encoder, calibrated on the training samples."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1000 * (self.recipe.training.seed + 1) + number)
            encoder = build_encoder(self.recipe, self.store).to(self.device)
        calibrate(encoder, self.recipe, self.store, self.samples[0])
        return encoder

    @cached_property
    def features(self) -> dict[str, list[tuple[Tensor, Tensor]]]:
        """(S, F) of the training and of the test samples, by every encoder."""
        return {name: [self._encoded(encoder) for encoder in each] for name, each in self.encoders.items()}

    def _encoded(self, encoder: nn.Module) -> tuple[Tensor, Tensor]:
        known, unseen = (encode(encoder, self.recipe, self.store, part) for part in self.samples)
        return known, unseen

    def scaled(self, known: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
        """Features as the linear classifier takes them: standardised by the training part where the recipe says so."""
        return standardised((known, *parts)) if self.recipe.evaluation.standardise else (known, *parts)

    @cached_property
    def classifiers(self) -> dict[str, list[LinearResult]]:
        """A linear classifier on the features of every encoder."""
        pairs = [self.scaled(*parts) for name in ENCODERS for parts in self.features[name]]
        trains, tests = ([(pair[place], self.labels[place]) for pair in pairs] for place in (0, 1))
        seeds = [self.recipe.training.seed] * len(pairs)
        found = iter(linear_together(trains, tests, self.classes, self.recipe.evaluation, seeds))
        return {name: [next(found) for _ in self.features[name]] for name in ENCODERS}

    def results(self, protocol: str, values: Mapping[str, np.ndarray], **fields: Any) -> list[Result]:
        """Rows of one number for every part of the test samples and every encoder.

        Args:
            protocol: its name.
            values: (repeats, S) of each test sample, in [0, 1], by encoder.
            fields: what else a row says.
        """
        means = {name: array.astype(np.float64).mean(axis=0) for name, array in values.items()}
        rows = []
        for part, chosen in self.parts.items():
            for name in (name for name in ENCODERS if name in values):
                own, gain = 100 * values[name][:, chosen].astype(np.float64).mean(axis=1), None
                if name == "trained" and "untrained" in means:
                    gain = paired_interval(means["trained"][chosen], means["untrained"][chosen])
                fields |= {
                    "value": float(100 * means[name][chosen].mean()),
                    "interval": interval(means[name][chosen]),
                    "deviation": float(own.std(ddof=1)) if len(own) > 1 else None,
                    "repeats": len(own),
                    "gain": gain,
                }
                rows.append(self._row(protocol, part, name, **fields))
        return rows

    def not_possible(self, protocol: str, note: str, **fields: Any) -> list[Result]:
        """A row without a number for every part of the test samples."""
        return [self._row(protocol, part, "trained", value=None, note=note, **fields) for part in self.parts]

    def _row(self, protocol: str, part: str, encoder: str, **fields: Any) -> Result:
        recipe = self.recipe
        return Result(
            dataset=self.store.header.dataset,
            preprocessing=self.store.header.preprocessing,
            pretrained_on=self.pretrained_on,
            method=f"{recipe.method}, official" if recipe.official else recipe.method,
            stream=stream_name(recipe),
            train=self.train,
            test=part,
            test_samples=len(self.parts[part]),
            protocol=protocol,
            encoder=encoder,
            seed=recipe.training.seed,
            run=str(self.run),
            commit=commit(),
            versions=versions(),
            **fields,
        )


def stream_name(recipe: Recipe) -> str:
    """What a run is called among those of a method: SCC's streams are colours."""
    return recipe.scc.colouring if recipe.method == "scc" else recipe.method_options.stream


def load_run(run: Path, store: Store) -> Recipe:
    """The recipe of a finished run on a data set.

    Raises:
        EvaluationError: the folder holds no finished run, or one on other data.
    """
    recipe = read_recipe(run)
    if store.header.dataset != recipe.dataset or store.header.preprocessing != recipe.preprocessing:
        found = f"{store.header.dataset!r}, {store.header.preprocessing!r}"
        raise EvaluationError(f"{store.path}: expected {recipe.dataset!r}, {recipe.preprocessing!r}, found {found}")
    return recipe


def read_recipe(run: Path) -> Recipe:
    """The recipe of a finished run.

    Raises:
        EvaluationError: the folder holds none.
    """
    for name in (CONFIG, ENCODER):
        if not (run / name).is_file():
            raise EvaluationError(f"{run}: expected a finished run, found no {name}")
    return recipe_from_data(yaml.safe_load((run / CONFIG).read_text()))


def open_context(
    run: Path,
    store: Store,
    train: str | None = None,
    test: str | None = None,
    recipe: Recipe | None = None,
    device: torch.device | str = "cpu",
) -> Context:
    """A finished run on its own data set.

    Args:
        run: its folder.
        store: its data set.
        train: split that classifiers are trained on; by default the one of pre-training.
        test: split to test on; by default the recipe's.
        recipe: the run's, with other options of evaluation.
        device: where encoders run.

    Raises:
        EvaluationError: the folder holds no finished run, or one on other data.
    """
    recipe = recipe or load_run(run, store)
    splits = train or recipe.training.split, test or recipe.evaluation.test
    pretrained_on = f"{recipe.dataset} {recipe.training.split}"
    return Context(run, recipe, store, *splits, pretrained_on, torch.device(device))
