"""Choices of hyper-parameters on validation splits; the test split is never touched."""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from skelssl.data.store import Store
from skelssl.engine.pretrain import ENCODER, pretrain
from skelssl.engine.recipe import Recipe, RecipeError, load_recipe
from skelssl.protocols.evaluate import evaluate


@dataclass(frozen=True)
class Choice:
    """Mean validation accuracies in percent of one setting."""

    setting: tuple[str, ...]
    linear: float
    knn: float
    untrained_linear: float


def choose(name: str, store: Store, out: Path, grid: list[str], flags: list[str]) -> list[Choice]:
    """Trains every setting of a grid on each validation pair of the recipe, best setting first.

    Args:
        name: recipe, by name or file.
        store: its data set.
        out: folder for the runs; finished ones in it are used again.
        grid: `key=value,value,...`, one for each choice.
        flags: of the recipe, the same for all settings.

    Raises:
        RecipeError: the recipe names no validation splits, one that holds test samples, or an unknown key.
    """
    axes = [[f"--{key}={value}" for value in values.split(",")] for key, _, values in (g.partition("=") for g in grid)]
    choices = []
    for setting in itertools.product(*axes):
        recipe = load_recipe(name, [*flags, *setting])
        _check_splits(recipe, store)
        scores = [_score(recipe, store, out, setting, pair) for pair in recipe.evaluation.validation]
        linear, knn, untrained = np.mean(scores, axis=0)
        choices.append(Choice(tuple(flag.removeprefix("--") for flag in setting), linear, knn, untrained))
    return sorted(choices, key=lambda choice: -choice.linear)


def _check_splits(recipe: Recipe, store: Store) -> None:
    if not recipe.evaluation.validation:
        raise RecipeError("evaluation.validation: expected pairs of splits to choose on, found none")
    test = store.select(recipe.evaluation.test)
    for split in {split for pair in recipe.evaluation.validation for split in pair}:
        if np.isin(store.select(split), test).any():
            raise RecipeError(f"evaluation.validation: split {split!r} holds test samples")


def _score(
    recipe: Recipe, store: Store, out: Path, setting: tuple[str, ...], pair: tuple[str, str]
) -> tuple[float, float, float]:
    """(linear, kNN, untrained linear) accuracy of one setting on one pair of splits."""
    train, validation = pair
    run = out / "_".join([*(flag.removeprefix("--") for flag in setting), f"{train}-to-{validation}"])
    recipe = replace(recipe, training=replace(recipe.training, split=train))
    if not (run / ENCODER).exists():
        pretrain(recipe, store, run, resume=True)
    results = evaluate(run, store, train=train, test=validation)
    k = recipe.evaluation.neighbours[0]
    found = {
        (r.protocol, r.encoder): r.value or 0.0
        for r in results
        if r.test == validation and r.epochs != "best" and r.metric == "top-1" and r.k in (0, k)
    }
    return found["linear", "trained"], found["knn", "trained"], found["linear", "untrained"]


def table(choices: list[Choice]) -> str:
    """The choices as a Markdown table."""
    lines = ["| setting | linear % | kNN % | untrained linear % |", "| --- | --- | --- | --- |"]
    for choice in choices:
        setting = ", ".join(choice.setting) or "as the recipe says"
        lines.append(f"| {setting} | {choice.linear:.1f} | {choice.knn:.1f} | {choice.untrained_linear:.1f} |")
    return "\n".join(lines)
