"""What a report is made of: runs, their logs, their results and the data set."""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from skelssl.data.store import Store, StoreError, open_store
from skelssl.engine.log import read_log
from skelssl.engine.pretrain import CONFIG, ENCODER, RUN
from skelssl.protocols.batch import data_of
from skelssl.protocols.context import EvaluationError, load_run
from skelssl.protocols.evaluate import PREDICTIONS, RESULTS
from skelssl.protocols.results import Result, read_results

SCORES = "trained linear scores"


@dataclass
class RunData:
    """A run as a report shows it.

    Attributes:
        path: its folder.
        name: of that, or the whole path where two runs have the same.
        config, record: what config.yaml and run.json hold.
        log: rows of log.csv, numbers by column; NaN where a row has none.
        results: its results; none before it is evaluated.
        predictions: arrays of predictions.npz, by name.
        store: the data set, where it is there.
    """

    path: Path
    name: str
    config: dict[str, Any]
    record: dict[str, Any]
    log: list[dict[str, float]]
    results: list[Result] = field(default_factory=list)
    predictions: dict[str, np.ndarray] = field(default_factory=dict)
    store: Store | None = None

    @cached_property
    def class_names(self) -> list[str]:
        """Of the data set; numbers where it is not there."""
        if self.store is not None:
            return self.store.header.class_names
        scores = self.predictions.get(SCORES)
        return [] if scores is None else [f"class {number}" for number in range(1, scores.shape[1] + 1)]

    @property
    def method(self) -> str:
        """Its name, as the paper writes it."""
        name = str(self.config["method"])
        return {"hico": "HiCo"}.get(name, name.upper())

    @property
    def title(self) -> str:
        return f"{self.method} on {self.config['dataset']}"

    def row(self, protocol: str, encoder: str = "trained", **wanted: object) -> Result | None:
        """The first result of a protocol on all test samples with a value, if there is one."""
        for row in self.results:
            own = row.dataset == self.config["dataset"] and not row.test.endswith("_unseen")
            fits = all(getattr(row, key) == value for key, value in wanted.items())
            if own and fits and (row.protocol, row.encoder) == (protocol, encoder) and row.value is not None:
                return row
        return None

    @property
    def headline(self) -> Result | None:
        """Linear classification, last epoch."""
        return self.row("linear", epochs="last", metric="top-1", setting="")

    @property
    def splits(self) -> tuple[str, str] | None:
        """Training and test split of the results on the run's own data set; None before it is evaluated."""
        rows = [row for row in self.results if row.dataset == self.config["dataset"]]
        row = self.headline or next(iter(rows), None)
        return None if row is None else (row.train, row.test.removesuffix("_unseen"))

    @cached_property
    def confusion(self) -> np.ndarray | None:
        """(classes, classes) counts of test samples by true and predicted class, by the linear classifier.

        Raises:
            EvaluationError: predictions do not fit together.
        """
        if SCORES not in self.predictions:
            return None
        scores, labels = self.predictions[SCORES], self.predictions.get("labels", np.zeros(0))
        where, classes = f"{self.path.name}: {PREDICTIONS}", len(self.class_names)
        if scores.shape != (len(labels), classes) or labels.ndim != 1:
            expected = f"scores of {len(labels)} samples and {classes} classes"
            raise EvaluationError(f"{where}: expected {expected}, found {scores.shape}")
        if labels.dtype.kind not in "iu" or ((labels < 0) | (labels >= classes)).any() or not np.isfinite(scores).all():
            raise EvaluationError(f"{where}: expected labels of {classes} classes and finite scores, found others")
        counts = np.zeros((classes, classes), np.int64)
        np.add.at(counts, (labels, scores.argmax(axis=1)), 1)
        return counts


def read_runs(runs: Sequence[Path], results: Path | None = None, data: Path | None = None) -> list[RunData]:
    """Finished runs, with what their evaluation has left.

    Args:
        runs: their folders.
        results: a results.json, or a folder with one, or, of several runs, a folder with a folder for each; by default
            the run folders.
        data: store of all; by default the one that each was pre-trained on, if it is still there.

    Raises:
        EvaluationError: a folder holds no run, or a file is damaged.
        ResultsError: results are not as expected.
        StoreError: `data` is no store.
    """
    if not runs:
        raise EvaluationError("runs: expected at least one, found none")
    shared = None if data is None else open_store(data)
    alone = {run.name for run in runs if [other.name for other in runs].count(run.name) == 1}
    found = [_read_run(run, run.name if run.name in alone else str(run)) for run in runs]
    for each in found:
        each.store = _store_of(each, shared)
        _add_results(each, results, len(runs))
    return found


def _read_run(run: Path, name: str) -> RunData:
    try:
        config, record = yaml.safe_load((run / CONFIG).read_text()), json.loads((run / RUN).read_text())
        log = [{key: float(value) if value else np.nan for key, value in row.items()} for row in read_log(run)]
    except FileNotFoundError as error:
        raise EvaluationError(f"{run}: expected a run, found no {Path(error.filename).name}") from None
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise EvaluationError(f"{run}: expected a run, found a damaged file: {error}") from None
    for key in ("method", "dataset", "training"):
        if not isinstance(config, dict) or key not in config:
            raise EvaluationError(f"{run / CONFIG}: expected the key {key!r}, found none")
    if not isinstance(record, dict) or any("epoch" not in row or "loss" not in row for row in log):
        raise EvaluationError(f"{run}: expected a record and a log of epochs and losses, found others")
    return RunData(run, name, config, record, log)


def _store_of(run: RunData, shared: Store | None) -> Store | None:
    """The store that is given, which has to be the run's data set, or the one that the run names."""
    try:
        store = shared or data_of(run.path)
    except (EvaluationError, StoreError):
        return None
    if (run.path / ENCODER).is_file():
        load_run(run.path, store)
    return store


def _add_results(run: RunData, given: Path | None, runs: int) -> None:
    """Results and predictions, of a shared file those of this run."""
    place = run.path if given is None else given
    if runs > 1 and given is not None and (given / run.path.name / RESULTS).is_file():
        place = given / run.path.name
    if given is None and not (place / RESULTS).is_file():
        return
    rows = read_results(place)
    if runs > 1 and place == given:
        run.results = [row for row in rows if Path(row.run).name == run.path.name]
        return  # the predictions beside a shared file are of one run only
    run.results = rows
    folder = place if place.is_dir() else place.parent
    if (folder / PREDICTIONS).is_file():
        run.predictions = _read_predictions(folder / PREDICTIONS)


def _read_predictions(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise EvaluationError(f"{path}: cannot be read: {error}") from None
