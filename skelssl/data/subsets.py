"""Parts of the training samples for semi-supervised protocols, and splits of data sets that come without any.

All are pure functions of the seed and the samples' numbers (`skelssl.views.draws`): the same on every machine.
"""

from collections.abc import Iterator

import numpy as np
import torch

from skelssl.views.draws import Draws


def class_balanced_subset(samples: np.ndarray, labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """A fraction of each class: round(fraction · n) of its n samples, at least one (PSTL's Feeder_semi, AimCLR's).

    Smaller fractions' subsets lie in larger ones' of the same seed.

    Args:
        samples: (N) numbers of samples in their store, such as a split.
        labels: (S) of all of the store's samples.
        fraction: in (0, 1].
        seed: another seed, another subset.

    Returns:
        Their numbers, ascending.

    Raises:
        ValueError: the fraction is out of range.
    """
    _check_fraction(fraction)
    chosen = [members[: max(1, round(fraction * len(members)))] for members in _classes(samples, labels, seed)]
    return np.sort(np.concatenate(chosen)) if chosen else samples[:0]


def random_subset(samples: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """round(fraction · N) samples, at least one, whatever their classes (CMD); else as `class_balanced_subset`."""
    _check_fraction(fraction)
    return np.sort(_shuffled(samples, seed)[: max(1, round(fraction * len(samples)))])


def subject_disjoint_split(
    labels: np.ndarray, subjects: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(training, test) samples of different subjects, about `fraction` of each class for the test.

    Subjects go to the test in a random order, each if it brings the classes nearer to their fractions.

    Args:
        labels: (S) of all samples.
        subjects: (S) whom they show.
        fraction: in (0, 1].
        seed: another seed, another order.

    Raises:
        ValueError: the fraction is out of range, or there are fewer than two subjects.
    """
    _check_fraction(fraction)
    people, places = np.unique(subjects, return_inverse=True)
    if len(people) < 2:
        raise ValueError(f"subjects: expected at least two for a split by subjects, found {len(people)}")
    counts = np.zeros((len(people), int(labels.max()) + 1))
    np.add.at(counts, (places, labels), 1)
    wanted = fraction * counts.sum(axis=0)
    test: list[int] = []
    for person in _shuffled(np.arange(len(people)), seed):
        missing = wanted - counts[test].sum(axis=0)
        nearer = np.abs(missing - counts[person]).sum() < np.abs(missing).sum()
        if (nearer or not test) and len(test) < len(people) - 1:
            test.append(int(person))
    in_test = np.isin(places, test)
    return np.flatnonzero(~in_test), np.flatnonzero(in_test)


def class_balanced_split(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(training, test) samples, the test `class_balanced_subset`'s; a class of one sample stays in training.

    Raises:
        ValueError: the fraction is out of range.
    """
    _check_fraction(fraction)
    classes = _classes(np.arange(len(labels)), labels, seed)
    chosen = [members[: min(max(1, round(fraction * len(members))), len(members) - 1)] for members in classes]
    test = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), test), test


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction: expected a number in (0, 1], found {fraction}")


def _classes(samples: np.ndarray, labels: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Each class's samples in random order."""
    order = _shuffled(samples, seed)
    for label in np.unique(labels[order]):
        yield order[labels[order] == label]


def _shuffled(samples: np.ndarray, seed: int) -> np.ndarray:
    """By a word that each number draws for itself: leaving some out changes no other's place."""
    numbers = np.array(samples, np.int64)
    words = Draws(seed, 0).words(torch.from_numpy(numbers), "subset", "order", (2,)).numpy()
    return numbers[np.lexsort((numbers, words[:, 1], words[:, 0]))]
