import numpy as np
import pytest
import torch

import skelkern

EPS = torch.finfo(torch.float32).eps
# (Q, N, D, k): one of each; all rows; panels, blocks of rows and of depth that are not full; several of each
SHAPES = [
    *((1, 1, 1, 1), (3, 7, 5, 7), (3, 150, 130, 3), (2, 500, 16, 100)),
    *(pytest.param(*shape, marks=pytest.mark.large) for shape in ((50, 200, 130, 20), (101, 333, 300, 5))),
]


def make_inputs(q, n, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(q, d, generator=generator) + 0.5, 3 * torch.randn(n, d, generator=generator) + 1


@pytest.mark.parametrize(("q", "n", "d", "k"), SHAPES)
@pytest.mark.parametrize("seed", range(8))
def test_the_most_similar_are_found(q, n, d, k, seed):
    queries, database = make_inputs(q, n, d, seed)
    similarity, index = skelkern.cosine_topk(queries, database, k)
    exact, _ = skelkern.cosine_topk(queries.double(), database.double(), k, impl="reference")
    cosines = torch.nn.functional.cosine_similarity(queries.double()[:, None], database.double()[index], dim=2)
    assert torch.allclose(similarity.double(), cosines, atol=32 * EPS, rtol=0)
    assert (cosines >= exact[:, -1:] - 32 * EPS).all(), "nothing more similar was left out"
    assert (similarity[:, 1:] <= similarity[:, :-1]).all()
    assert all(len(set(row)) == k for row in index.tolist())


def test_ties_go_to_the_lower_index(impl):
    """Axes, whose similarities 1, 0 and -1 are exact, many times over."""
    axes = torch.cat([torch.eye(4), -torch.eye(4)])
    similarity, index = skelkern.cosine_topk(2 * axes[:1], axes.repeat(100, 1), 250, impl=impl)
    assert index[0, :100].tolist() == list(range(0, 800, 8))
    others = [i for i in range(800) if i % 8 not in (0, 4)]
    assert index[0, 100:].tolist() == others[:150]
    assert similarity[0].tolist() == [1.0] * 100 + [0.0] * 150


def test_zero_vectors_have_similarity_zero(impl):
    database = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    similarity, index = skelkern.cosine_topk(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), database, 3, impl=impl)
    assert similarity.tolist() == [[1, 0, -1], [0, 0, 0]]
    assert index.tolist() == [[1, 0, 2], [0, 1, 2]]


def test_nan_ranks_last(impl):
    database = torch.tensor([[torch.nan, 0.0], [1.0, 0.0], [torch.nan, 1.0], [-1.0, 0.0]])
    queries = torch.tensor([[1.0, 0.0], [torch.nan, 0.0]])
    similarity, index = skelkern.cosine_topk(queries, database, 3, impl=impl)
    assert index.tolist() == [[1, 3, 0], [0, 1, 2]]
    assert similarity[0, :2].tolist() == [1, -1]
    assert similarity[0, 2:].isnan().all()
    assert similarity[1].isnan().all()


def test_very_short_and_very_long_vectors():
    queries, database = make_inputs(4, 30, 8)
    expected = skelkern.cosine_topk(queries, database, 5)
    for factor in (1e-25, 1e25):
        similarity, index = skelkern.cosine_topk(factor * queries, database / factor, 5)
        assert torch.equal(index, expected[1])
        assert torch.allclose(similarity, expected[0], rtol=1e-5)


def by_parts(queries, database, k):
    """The best of the best of small parts, which are multiplied in float32 alone."""
    similarities, indices = [], []
    for first in range(0, len(database), 1000):
        similarity, index = skelkern.cosine_topk(queries, database[first : first + 1000], k)
        similarities.append(similarity)
        indices.append(index + first)
    similarity, index = torch.cat(similarities, dim=1), torch.cat(indices, dim=1)
    order = torch.where(similarity.isnan(), -torch.inf, similarity).argsort(dim=1, descending=True, stable=True)[:, :k]
    return similarity.gather(1, order), index.gather(1, order)


@pytest.mark.cpu_kernel
@pytest.mark.parametrize("likeness", [0.0, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("d", [128, 301])
def test_a_filter_changes_no_bit(likeness, d):
    """Where a first pass in bfloat16 leaves few rows, many, or so many that it is given up."""
    queries, database = make_inputs(100, 3000, d)
    database = likeness * queries[:1] + (1 - likeness) * database
    database[::97] = 0
    database[5::301] *= 1e-30
    database[7::401] = torch.nan
    queries[3], queries[4] = 0, torch.nan
    found, expected = skelkern.cosine_topk(queries, database, 20), by_parts(queries, database, 20)
    assert torch.equal(found[1], expected[1])
    assert torch.equal(found[0].nan_to_num(9), expected[0].nan_to_num(9))


def test_half_precision_is_widened():
    queries, database = (value.bfloat16() for value in make_inputs(5, 60, 16))
    expected = skelkern.cosine_topk(queries.float(), database.float(), 4)
    assert torch.equal(skelkern.cosine_topk(queries, database, 4)[1], expected[1])


@pytest.mark.cpu_kernel
def test_arrays_in_and_out():
    queries, database = make_inputs(5, 60, 16)
    found = skelkern.cosine_topk(queries.numpy(), database.numpy(), 4)
    for array, tensor in zip(found, skelkern.cosine_topk(queries, database, 4), strict=True):
        assert isinstance(array, np.ndarray)
        assert np.array_equal(array, tensor.numpy())


def test_non_contiguous_inputs():
    queries, database = make_inputs(5, 60, 16)
    found = skelkern.cosine_topk(queries.T.contiguous().T, database.T.contiguous().T, 4)
    assert torch.equal(found[1], skelkern.cosine_topk(queries, database, 4)[1])


def test_no_queries():
    similarity, index = skelkern.cosine_topk(torch.zeros(0, 4), torch.zeros(7, 4), 2)
    assert similarity.shape == index.shape == (0, 2)


QUERIES, DATABASE = torch.zeros(3, 4), torch.zeros(7, 4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            (QUERIES, torch.zeros(7, 5), 2),
            ValueError,
            r"database: expected shape \(N, D\) with N=7, D=4, found \(7, 5\)",
        ),
        ((QUERIES[0], DATABASE, 2), ValueError, r"queries: expected shape \(Q, D\), found \(4,\)"),
        ((QUERIES, DATABASE.double(), 2), TypeError, "database: expected queries's dtype torch.float32"),
        ((QUERIES, DATABASE, 8), ValueError, r"k: expected a whole number in \[1, 7\], found 8"),
        ((QUERIES, DATABASE, 2.0), TypeError, "k: expected a whole number, found float"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        skelkern.cosine_topk(*arguments)
