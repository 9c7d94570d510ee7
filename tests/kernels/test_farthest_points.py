import numpy as np
import pytest
import torch

import skelkern


def lattice(b, n, d, side=20, seed=0):
    return torch.randint(-side, side, (b, n, d), generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize(("b", "n", "d", "m"), [(1, 1, 3, 1), (2, 7, 1, 7), (3, 100, 3, 50), (2, 333, 17, 20)])
@pytest.mark.parametrize("start", [0, -1])
def test_exact_on_a_lattice(b, n, d, m, start):
    points, start = lattice(b, n, d), start % n
    expected = skelkern.farthest_point_sample(points, m, start=start, impl="reference")
    assert torch.equal(skelkern.farthest_point_sample(points, m, start=start), expected)


@pytest.mark.parametrize("share", [0.8, 0.2, 0.0])
def test_masked_points_are_not_picked(share):
    points = lattice(4, 60, 3)
    mask = torch.rand(4, 60, generator=torch.Generator().manual_seed(1)) < share
    points[~mask] = torch.nan
    found = skelkern.farthest_point_sample(points, 30, mask, start=59)
    assert torch.equal(found, skelkern.farthest_point_sample(points, 30, mask, start=59, impl="reference"))
    if share > 0:
        assert mask.gather(1, found).all()


def test_on_a_line(impl):
    points = torch.tensor([0.0, 1.0, 3.0, 4.0, 10.0])[None, :, None]
    assert skelkern.farthest_point_sample(points, 4, start=1, impl=impl).tolist() == [[1, 4, 3, 0]]
    mask = torch.tensor([[True, False, True, False, True]])
    assert skelkern.farthest_point_sample(points, 5, mask, start=3, impl=impl).tolist() == [[4, 0, 2, 4, 4]]
    nobody = torch.zeros(1, 5, dtype=torch.bool)
    assert skelkern.farthest_point_sample(points, 2, nobody, start=3, impl=impl).tolist() == [[3, 3]]


def test_a_point_without_distances_is_picked_once(impl):
    points = torch.tensor([0.0, torch.nan, 1.0, 5.0])[None, :, None]
    assert skelkern.farthest_point_sample(points, 3, impl=impl).tolist() == [[0, 1, 3]]


@pytest.mark.cpu_kernel
def test_arrays_in_and_out():
    points = np.random.default_rng(0).normal(size=(2, 40, 3)).astype(np.float32)
    found = skelkern.farthest_point_sample(points, 4)
    assert isinstance(found, np.ndarray)
    assert np.array_equal(found, skelkern.farthest_point_sample(torch.from_numpy(points), 4).numpy())


def test_empty_batch():
    assert skelkern.farthest_point_sample(torch.zeros(0, 5, 3), 2).shape == (0, 2)


POINTS = torch.zeros(2, 5, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((POINTS[0], 2), ValueError, r"points: expected shape \(B, N, D\), found \(5, 3\)"),
        ((POINTS, 6), ValueError, r"m: expected a whole number in \[1, 5\], found 6"),
        ((POINTS, 2, None, 5), ValueError, r"start: expected a whole number in \[0, 4\], found 5"),
        ((POINTS, 2, None, 0.0), TypeError, "start: expected a whole number, found float"),
        ((POINTS, 2, torch.ones(2, 5)), TypeError, "mask: expected torch.bool, found torch.float32"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        skelkern.farthest_point_sample(*arguments)
