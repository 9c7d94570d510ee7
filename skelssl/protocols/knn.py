"""Retrieval: the nearest training features by cosine similarity."""

import numpy as np
import torch

from skelssl.protocols.classify import average_precision, neighbour_votes
from skelssl.protocols.context import ENCODERS, Context
from skelssl.protocols.results import Result


def run(context: Context) -> list[Result]:
    """Accuracy by a vote of k neighbours, for every k of the recipe, and mean average precision."""
    (labels, truth), wanted = context.labels, context.recipe.evaluation.neighbours
    possible = [k for k in wanted if k <= len(labels)]
    correct: dict[int, dict[str, np.ndarray]] = {k: {} for k in possible}
    precision = {}
    for name in ENCODERS:
        pairs = context.features[name]
        for k in possible:
            correct[k][name] = np.zeros((len(pairs), len(truth)))
        for row, (known, unseen) in enumerate(pairs):
            votes = neighbour_votes((known, labels), unseen, context.classes, possible) if possible else {}
            for k, predicted in votes.items():
                correct[k][name][row] = (predicted == truth).numpy()
        precision[name] = torch.stack(
            [average_precision((known, labels), (unseen, truth)) for known, unseen in pairs]
        ).numpy()
        for k in possible:
            context.predictions[f"{name} knn {k}"] = correct[k][name].mean(axis=0)
    rows = []
    for k in wanted:
        if k in correct:
            rows += context.results("knn", correct[k], k=k)
        else:
            rows += context.not_possible("knn", f"not possible: {len(labels)} training samples", k=k)
    return rows + context.results("knn", precision, metric="mAP")
