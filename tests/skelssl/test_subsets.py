import numpy as np
import pytest

from skelssl.data.subsets import class_balanced_split, class_balanced_subset, random_subset, subject_disjoint_split

LABELS = np.repeat([0, 1, 2], [100, 37, 3])
SAMPLES = np.arange(140)


def test_each_class_gives_its_fraction_and_at_least_one():
    counts = {
        fraction: np.bincount(LABELS[class_balanced_subset(SAMPLES, LABELS, fraction, 0)]).tolist()
        for fraction in (0.01, 0.05, 0.1, 0.4, 1.0)
    }
    assert counts == {0.01: [1, 1, 1], 0.05: [5, 2, 1], 0.1: [10, 4, 1], 0.4: [40, 15, 1], 1.0: [100, 37, 3]}


@pytest.mark.parametrize(
    "subset",
    [lambda p, s: class_balanced_subset(SAMPLES, LABELS, p, s), lambda p, s: random_subset(SAMPLES, p, s)],
)
def test_subsets_are_nested_and_seeded(subset):
    for small, large in ((0.01, 0.05), (0.05, 0.1), (0.1, 0.4)):
        assert set(subset(small, 3)) < set(subset(large, 3))
    np.testing.assert_array_equal(subset(0.1, 3), subset(0.1, 3))
    assert set(subset(0.1, 3)) != set(subset(0.1, 4))
    assert (np.diff(subset(0.4, 3)) > 0).all()


def test_the_same_on_every_machine():
    assert class_balanced_subset(SAMPLES, LABELS, 0.05, 0).tolist() == [23, 45, 50, 57, 94, 123, 132, 138]
    assert random_subset(SAMPLES, 0.05, 0).tolist() == [23, 45, 50, 57, 94, 123, 132]


def test_a_subset_depends_on_neither_order_nor_other_samples():
    part = SAMPLES[LABELS != 1]
    found = class_balanced_subset(part[::-1], LABELS, 0.1, 0)
    whole = class_balanced_subset(SAMPLES, LABELS, 0.1, 0)
    np.testing.assert_array_equal(found, whole[LABELS[whole] != 1])


def test_random_subsets_count_all_samples():
    assert len(random_subset(SAMPLES, 0.1, 0)) == 14 and len(random_subset(SAMPLES, 0.001, 0)) == 1


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5, float("nan")])
def test_fractions_out_of_range(fraction):
    with pytest.raises(ValueError, match=r"fraction: expected a number in \(0, 1\], found"):
        class_balanced_subset(SAMPLES, LABELS, fraction, 0)


def test_subjects_are_in_one_half_and_classes_near_their_fractions():
    generator = np.random.default_rng(0)
    subjects, labels = generator.integers(0, 20, 2000), generator.integers(0, 10, 2000)
    train, test = subject_disjoint_split(labels, subjects, 0.3, 0)
    assert sorted([*train, *test]) == list(range(2000))
    assert not set(subjects[train]) & set(subjects[test])
    shares = np.bincount(labels[test]) / np.bincount(labels)
    assert abs(shares - 0.3).max() < 0.08
    assert set(subjects[test]) != set(subjects[subject_disjoint_split(labels, subjects, 0.3, 1)[1]])


def test_few_subjects():
    train, test = subject_disjoint_split(np.array([0, 0, 1]), np.array([4, 9, 9]), 0.01, 0)
    assert len(train) and len(test)
    with pytest.raises(ValueError, match="expected at least two for a split by subjects, found 1"):
        subject_disjoint_split(np.array([0, 0]), np.array([4, 4]), 0.5, 0)


def test_without_subjects_every_class_stays_in_training():
    labels = np.array([0] * 10 + [1] * 2 + [2])
    train, test = class_balanced_split(labels, 0.3, 0)
    assert np.bincount(labels[test], minlength=3).tolist() == [3, 1, 0]
    assert np.bincount(labels[train]).tolist() == [7, 1, 1]
