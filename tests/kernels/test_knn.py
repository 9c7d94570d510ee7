import numpy as np
import pytest
import torch

import skelkern

EPS = torch.finfo(torch.float32).eps
# (B, N, D, k): one point; all of them; more groups than points; every path: by subtraction and expanded, few clouds
# (by rows) and several (by clouds), k for which a bound is and is not looked for, rows longer than one block
SHAPES = [
    (1, 1, 3, 1),
    (2, 5, 1, 5),
    (1, 97, 3, 20),
    (3, 97, 11, 20),
    (1, 200, 64, 7),
    (5, 331, 9, 20),
    (4, 150, 3, 60),
]


def distances(points, neighbors):
    """Squared distances in float64 of (B, N, k) neighbours."""
    wide = points.double()
    others = torch.stack([cloud[rows] for cloud, rows in zip(wide, neighbors, strict=True)])
    return (others - wide[:, :, None]).square().sum(dim=3)


def assert_near_enough(points, neighbors, mask=None):
    """Every returned point is at most as far as the true k-th, within rounding, and none is returned twice."""
    truth = distances(points, skelkern.knn(points.double(), neighbors.shape[2], mask))
    found = distances(points, neighbors)
    largest = points.double().square().sum(dim=2).amax(dim=1)[:, None, None]
    assert (found <= truth[..., -1:] * (1 + 32 * EPS) + 32 * EPS * largest).all()
    if mask is None:
        assert all(len(set(row)) == len(row) for row in neighbors.flatten(0, 1).tolist())


def lattice(b, n, d, side=4, seed=0):
    """Integer points, many of them coincident, far from the origin."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-side, side, (b, n, d), generator=generator).float() + 100


@pytest.mark.parametrize(("b", "n", "d", "k"), SHAPES)
@pytest.mark.parametrize("seed", range(8))
def test_neighbours_are_near_enough(b, n, d, k, seed):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(b, n, d, generator=generator) + 3
    assert_near_enough(points, skelkern.knn(points, k))


@pytest.mark.parametrize(("b", "n", "d", "k"), SHAPES)
def test_exact_on_a_lattice(b, n, d, k):
    points = lattice(b, n, d)
    assert torch.equal(skelkern.knn(points, k), skelkern.knn(points, k, impl="reference"))


@pytest.mark.parametrize("d", [3, 12])
@pytest.mark.parametrize("b", [1, 4])
def test_coincident_points_keep_their_order(b, d):
    """Half of the points at the origin, as the second person of a sequence for one: ties by hundreds."""
    points = lattice(b, 300, d)
    points[:, 150:] = 0
    assert torch.equal(skelkern.knn(points, 20), skelkern.knn(points, 20, impl="reference"))


def test_reference_on_a_line():
    points = torch.tensor([0.0, 1.0, 3.0, 3.0])[None, :, None]
    assert skelkern.knn(points, 3, impl="reference").tolist() == [[[0, 1, 2], [1, 0, 2], [2, 3, 1], [2, 3, 1]]]
    mask = torch.tensor([[True, False, True, False]])
    assert skelkern.knn(points, 3, mask, impl="reference").tolist() == [[[0, 2, 2], [1, 1, 1], [2, 0, 0], [3, 3, 3]]]


@pytest.mark.parametrize("d", [3, 12])
@pytest.mark.parametrize("b", [1, 4])
@pytest.mark.parametrize("share", [0.9, 0.3, 0.05, 0.0])
def test_masked_points_are_nobodys_neighbours(b, d, share):
    points = lattice(b, 120, d)
    mask = torch.rand(b, 120, generator=torch.Generator().manual_seed(1)) < share
    points[~mask] = torch.nan
    assert torch.equal(skelkern.knn(points, 20, mask), skelkern.knn(points, 20, mask, impl="reference"))


@pytest.mark.parametrize("d", [3, 12])
@pytest.mark.parametrize("b", [1, 4])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_points_without_a_distance_rank_last(b, d, value):
    points = lattice(b, 30, d)
    points[:, 3:17, d - 1] = value
    found = skelkern.knn(points, 20)
    expected = skelkern.knn(points, 20, impl="reference")
    assert torch.equal(found, expected)
    assert found[0, 3].tolist() == list(range(20)), "all its distances are infinite: ties to the lower index"


def test_large_coordinates_and_small_differences():
    generator = torch.Generator().manual_seed(0)
    points = 1e-3 * torch.randn(3, 200, 16, generator=generator) + 1000
    assert torch.equal(skelkern.knn(points, 10), skelkern.knn(points, 10, impl="reference"))


@pytest.mark.parametrize("b", [1, 4])
def test_many_neighbours_of_many_points(b):
    points = lattice(b, 700, 10, side=50)
    assert torch.equal(skelkern.knn(points, 699), skelkern.knn(points, 699, impl="reference"))


def test_half_precision_is_widened():
    points = torch.randn(2, 60, 16).bfloat16()
    assert torch.equal(skelkern.knn(points, 5), skelkern.knn(points.float(), 5))


@pytest.mark.cpu_kernel
def test_arrays_in_and_out():
    points = np.random.default_rng(0).normal(size=(2, 40, 3)).astype(np.float32)
    mask = np.ones((2, 40), bool)
    found = skelkern.knn(points, 4, mask)
    assert isinstance(found, np.ndarray)
    assert np.array_equal(found, skelkern.knn(torch.from_numpy(points), 4).numpy())


def test_non_contiguous_inputs():
    points, mask = torch.randn(2, 3, 40), torch.rand(40, 2) < 0.7
    found = skelkern.knn(points.transpose(1, 2), 4, mask.T)
    assert torch.equal(found, skelkern.knn(points.transpose(1, 2).contiguous(), 4, mask.T.contiguous()))


def test_empty_batch():
    assert skelkern.knn(torch.zeros(0, 5, 3), 2).shape == (0, 5, 2)


POINTS = torch.zeros(2, 5, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((POINTS[0], 2), ValueError, r"points: expected shape \(B, N, D\), found \(5, 3\)"),
        ((POINTS.long(), 2), TypeError, "points: expected a floating-point tensor"),
        ((POINTS, 6), ValueError, r"k: expected a whole number in \[1, 5\], found 6"),
        ((POINTS, 0), ValueError, r"k: expected a whole number in \[1, 5\], found 0"),
        ((POINTS, 2.0), TypeError, "k: expected a whole number, found float"),
        ((POINTS, 2, torch.ones(2, 4, dtype=torch.bool)), ValueError, r"mask: expected shape \(B, N\) with B=2, N=5"),
        ((POINTS, 2, torch.ones(2, 5)), TypeError, "mask: expected torch.bool, found torch.float32"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        skelkern.knn(*arguments)
