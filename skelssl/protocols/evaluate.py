"""All protocols of a run, the untrained encoder beside the trained one."""

import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from skelssl.data.store import Store
from skelssl.engine.checkpoint import replace_file
from skelssl.engine.recipe import Recipe
from skelssl.protocols import finetune, knn, linear, robustness, semi, transfer
from skelssl.protocols.context import Context, EvaluationError, open_context
from skelssl.protocols.results import RESULTS, Result, ResultsError, read_results, table, write_results

__all__ = ["PREDICTIONS", "PROTOCOLS", "RESULTS", "EvaluationError", "Result", "evaluate", "table"]

PREDICTIONS = "predictions.npz"
DEFAULT = ("linear", "knn")
PROTOCOLS: dict[str, Callable[[Context], list[Result]]] = {
    "linear": linear.run,
    "linear-exact": linear.run_exact,
    "knn": knn.run,
    "semi": semi.run,
    "semi-finetune": semi.run_finetuned,
    "finetune": finetune.run,
    "robustness": robustness.run,
    "transfer": transfer.run,
    "transfer-finetune": transfer.run_finetuned,
}


def evaluate(
    run: Path,
    store: Store,
    *,
    protocols: Sequence[str] = DEFAULT,
    train: str | None = None,
    test: str | None = None,
    out: Path | None = None,
    recipe: Recipe | None = None,
    device: torch.device | str = "cpu",
    target: Store | None = None,
    target_splits: tuple[str, str] = ("train", "test"),
) -> list[Result]:
    """Evaluates a run and writes results.json and predictions.npz, after every protocol; of `linear` also its classes.

    Args:
        run: folder of a finished run.
        store: its data set.
        protocols: some of PROTOCOLS.
        train: split that classifiers are trained on; by default the one of pre-training.
        test: split to test on; by default the recipe's.
        out: folder for the files; by default the run folder.
        recipe: the run's, with other options of evaluation.
        device: where encoders run.
        target, target_splits: another data set, and its splits (training, test), for the protocols of transfer.

    Raises:
        EvaluationError: the run is not finished, or its encoder is damaged or of another data set; an unknown protocol.
    """
    check_protocols(protocols)
    context = open_context(run, store, train, test, recipe, device)
    context.target, context.target_splits = target, target_splits
    results: list[Result] = []
    for protocol in protocols:
        results += PROTOCOLS[protocol](context)
        write_files(out or run, context, results)
    return results


def check_protocols(protocols: Sequence[str]) -> None:
    """Refuses unknown ones.

    Raises:
        EvaluationError: there are some, or none at all.
    """
    if not protocols or not set(protocols) <= set(PROTOCOLS):
        expected = ", ".join(PROTOCOLS)
        raise EvaluationError(f"protocols: expected some of {expected}, found {', '.join(protocols) or '-'}")


def write_files(out: Path, context: Context, results: Sequence[Result]) -> None:
    """Writes results.json, predictions.npz and, after the linear protocol, classes.csv and confusion.csv.

    What other protocols have left in the first two stays there. Rows are in the order of PROTOCOLS.
    """
    before, arrays = _left_by_others(out, {result.protocol for result in results})
    arrays |= context.predictions
    order = {name: number for number, name in enumerate(PROTOCOLS)}
    write_results(out, sorted([*before, *results], key=lambda row: order.get(row.protocol, len(order))))

    def save(partial: Path) -> None:
        with partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    replace_file(out / PREDICTIONS, save)
    if "trained linear scores" in context.predictions:
        linear.write_classes(out, context)


def _left_by_others(out: Path, protocols: set[str]) -> tuple[list[Result], dict[str, np.ndarray]]:
    """Results of other protocols that a folder holds, and all its arrays; of files that cannot be read, none."""
    if not (out / RESULTS).exists():
        return [], {}
    try:
        before = [result for result in read_results(out) if result.protocol not in protocols]
        with np.load(out / PREDICTIONS, allow_pickle=False) as file:
            return before, dict(file)
    except (ResultsError, OSError, ValueError, zipfile.BadZipFile) as error:
        warnings.warn(f"results of an earlier evaluation are replaced: {error}", stacklevel=3)
        return [], {}
