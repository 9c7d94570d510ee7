"""Sections about classes: accuracy of each, and which are taken for which."""

from collections.abc import Iterator, Sequence

import numpy as np

from skelssl.protocols.context import ENCODERS, EvaluationError
from skelssl.report.charts import MOST_NAMED, bar_chart, matrix
from skelssl.report.pieces import conditions, paragraph, per_run
from skelssl.report.source import RunData

PAIRS = 8


def class_bars(runs: Sequence[RunData]) -> str:
    """Linear accuracy of each class of every run, trained and untrained."""
    return per_run([run.name for run in runs], [_bars(run) for run in runs])


def _bars(run: RunData) -> str:
    rows = class_accuracies(run)
    if not rows:
        return ""
    rows.sort(key=lambda row: -row[3])
    series = {"untrained": [row[2] for row in rows], "trained": [row[3] for row in rows]}
    bars = bar_chart([row[0] for row in rows], series, [f"{row[1]}" for row in rows])
    return _told(run, "Best first; the small number is that of test sequences.") + bars


def class_accuracies(run: RunData) -> list[tuple[str, int, float, float]]:
    """Name, number of test samples, accuracy untrained and trained in percent, of each class that is tested.

    Raises:
        EvaluationError: predictions do not fit together.
    """
    if run.confusion is None:
        return []
    labels, values = run.predictions["labels"], []
    for encoder in ENCODERS:
        right = run.predictions.get(f"{encoder} linear 0 last")
        if right is None or right.shape != labels.shape:
            found = "none" if right is None else str(right.shape)
            raise EvaluationError(f"{run.path.name}: {encoder} linear: expected {labels.shape} values, found {found}")
        values.append(right)
    present = [label for label in range(len(run.class_names)) if (labels == label).any()]
    untrained, trained = ([100 * float(each[labels == label].mean()) for label in present] for each in values)
    counts = [int((labels == label).sum()) for label in present]
    return list(zip([run.class_names[label] for label in present], counts, untrained, trained, strict=True))


def confusions(runs: Sequence[RunData]) -> str:
    """Which class is taken for which, of every run."""
    return per_run([run.name for run in runs], [_confusion(run) for run in runs])


def _confusion(run: RunData) -> str:
    if run.confusion is None:
        return ""
    how = "Rows: true class; columns: predicted class"
    how += ", by the number of its row." if len(run.class_names) <= MOST_NAMED else ", in the order of the data set."
    pairs = "; ".join(f"{true} as {other}, {count} of {total}" for true, other, count, total in confused_pairs(run))
    often = paragraph(f"Most often taken for another: {pairs}.") if pairs else ""
    return _told(run, how) + matrix(run.class_names, run.confusion) + often


def confused_pairs(run: RunData) -> Iterator[tuple[str, str, int, int]]:
    """True class, predicted class, how often, of how many: the largest numbers off the diagonal."""
    if run.confusion is None:
        return
    wrong = run.confusion - np.diag(np.diag(run.confusion))
    for place in np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]:
        true, other = divmod(int(place), len(wrong))
        if wrong[true, other]:
            names = run.class_names
            yield names[true], names[other], int(wrong[true, other]), int(run.confusion[true].sum())


def _told(run: RunData, text: str) -> str:
    given = "" if run.headline is None else f"{conditions(run.headline)}. "
    return paragraph(given + text, "soft")
