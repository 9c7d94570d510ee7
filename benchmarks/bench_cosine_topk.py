"""Retrieval by cosine similarity, against scikit-learn and faiss where they are installed; there is no gradient."""

import importlib.util

import torch
from race import OURS, Case
from torch import Tensor

import skelkern


def normalised(queries: Tensor, database: Tensor) -> tuple[Tensor, Tensor]:
    return torch.nn.functional.normalize(queries, dim=1), torch.nn.functional.normalize(database, dim=1)


def official(queries: Tensor, database: Tensor, k: int) -> Tensor:
    """All similarities in one array, then topk."""
    unit_queries, unit_rows = normalised(queries, database)
    return (unit_queries @ unit_rows.T).topk(k, dim=1)[0]


def scikit_learn(queries: Tensor, database: Tensor, k: int) -> Tensor:
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(database.numpy())
    return torch.from_numpy(1 - index.kneighbors(queries.numpy())[0])


def faiss(queries: Tensor, database: Tensor, k: int) -> Tensor:
    from faiss import IndexFlatIP, omp_set_num_threads

    omp_set_num_threads(torch.get_num_threads())
    unit_queries, unit_rows = normalised(queries, database)
    index = IndexFlatIP(database.shape[1])
    index.add(unit_rows.numpy())
    return torch.from_numpy(index.search(unit_queries.numpy(), k)[0])


def ours(queries: Tensor, database: Tensor, k: int) -> Tensor:
    return skelkern.cosine_topk(queries, database, k)[0]


def case(q: int, n: int, d: int, k: int, sizes: str = "standard") -> Case:
    functions = {"official": official}
    for module, function in (("sklearn", scikit_learn), ("faiss", faiss)):
        if importlib.util.find_spec(module) is not None:
            functions[function.__name__.replace("_", "-")] = function

    def inputs() -> tuple[Tensor, Tensor, int]:
        classes = torch.randn(60, d)
        queries, database = (classes[torch.randint(60, (count,))] / 2 + torch.randn(count, d) for count in (q, n))
        return queries, database, k

    return Case(
        f"{k} of {n} for {q} queries, {d}-D",
        {**functions, OURS: ours},
        inputs,
        2 * q * n * d,
        4 * (q + n) * d,
        ("official",),
        sizes,
    )


CASES = [
    case(30, 500, 64, 5, sizes="smoke"),
    case(2000, 40000, 256, 20),
    case(2000, 40000, 2048, 20, sizes="full"),
    case(16384, 40000, 2048, 20, sizes="gpu"),
]


def test_cosine_topk(compare, case):
    compare(case)
