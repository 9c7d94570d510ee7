"""The kernels on a GPU: the error budget, determinism, capture into a graph. Skipped where there is none."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "kernels"))

from budget import check_budget, evaluate
from cases import CASES

import skelkern
from skelkern.dispatch import OPS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch.cuda.is_available() is False")

GPU_CASES = [
    pytest.param(case, one.name, id=f"{case}, {one.name}")
    for case in CASES
    for one in OPS[str(case)].implementations
    if one.name in ("cuda", "triton")
]
every_case = pytest.mark.parametrize(("case", "gpu_impl"), GPU_CASES)


@pytest.fixture(autouse=True)
def as_for_users(monkeypatch):
    """`--impl` names an implementation, and turns checks on, which wait for the device."""
    monkeypatch.delenv("SKELKERN_CHECKS", raising=False)
    with skelkern.use("auto"):
        yield


def on_gpu(case, seed=0):
    return {
        name: value.cuda() if isinstance(value, torch.Tensor) else value
        for name, value in case.make_inputs(seed).items()
    }


@every_case
def test_the_kernel_is_chosen(case, gpu_impl):
    explanation = skelkern.explain(case.function, **on_gpu(case))
    assert explanation.chosen == gpu_impl, str(explanation)


@every_case
def test_error_budget(case, gpu_impl):
    with skelkern.use(gpu_impl):
        check_budget(case.function, lambda seed: on_gpu(case, seed), case.differentiable)


@every_case
def test_the_same_bits_every_time(case, gpu_impl):
    first, second = (evaluate(case.function, on_gpu(case), case.differentiable, impl=gpu_impl) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@every_case
def test_capture_into_a_graph(case, gpu_impl):
    """Forward and backward, as they were outside the graph."""
    inputs = on_gpu(case)

    def results():
        leaves = {name: inputs[name].detach().requires_grad_() for name in case.differentiable}
        outputs = case.function(**{**inputs, **leaves}, impl=gpu_impl)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        squares = sum(output.square().sum() for output in outputs if output.requires_grad)
        return [*outputs, *(torch.autograd.grad(squares, list(leaves.values())) if leaves else ())]

    expected, stream = results(), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        results()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = results()
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(captured, expected, strict=True))


@pytest.mark.parametrize(
    ("n", "d", "k"), [(1, 3, 1), (25, 3, 20), (331, 2, 64), (97, 8, 33), (200, 64, 20), (150, 131, 7)]
)
def test_knn_of_every_path_is_exact_on_a_lattice(n, d, k):
    points = torch.randint(-4, 4, (3, n, d), generator=torch.Generator().manual_seed(0)).float().cuda() + 100
    mask = torch.rand(3, n, generator=torch.Generator().manual_seed(1)).cuda() < 0.7
    for valid in (None, mask):
        expected = skelkern.knn(points, k, valid, impl="reference")
        assert torch.equal(skelkern.knn(points, k, valid, impl="cuda"), expected)


@pytest.mark.parametrize(
    ("n", "d", "m"), [(1, 3, 1), (25, 2, 9), (2048, 3, 64), (3000, 3, 40), (9000, 3, 20), (301, 17, 30)]
)
def test_farthest_points_of_every_path_are_exact_on_a_lattice(n, d, m):
    points = torch.randint(-20, 20, (3, n, d), generator=torch.Generator().manual_seed(0)).float().cuda()
    expected = skelkern.farthest_point_sample(points, m, start=n - 1, impl="reference")
    assert torch.equal(skelkern.farthest_point_sample(points, m, start=n - 1, impl="cuda"), expected)


def test_clips_out_of_range_are_zero_and_named_on_request(monkeypatch):
    frames, times = torch.ones(9, 2, 25, 3, device="cuda"), torch.zeros(2, 6, device="cuda")
    offsets, index = torch.tensor([0, 9], device="cuda"), torch.tensor([0, 5], device="cuda")
    clips = skelkern.sample_clips(frames, offsets, index, times)
    assert (clips[0] == 1).all()
    assert (clips[1] == 0).all()
    monkeypatch.setenv("SKELKERN_CHECKS", "1")
    with pytest.raises(ValueError, match="index: expected values in"):
        skelkern.sample_clips(frames, offsets, index, times)


@pytest.mark.parametrize("share", [1.0, 0.7])
def test_neighbours_out_of_range_count_as_masked_and_are_named_on_request(share, monkeypatch):
    """As those to ten points more, outside the mask."""
    generator = torch.Generator().manual_seed(0)
    x, neighbors = torch.randn(3, 60, 8, generator=generator), torch.randint(60, (3, 60, 6), generator=generator)
    mask = torch.rand(3, 60, generator=generator) < share
    mask[:, 50:] = False
    others = torch.randn(16, 16, generator=generator).cuda(), torch.ones(16).cuda(), torch.ones(16).cuda()
    expected = skelkern.edge_conv(x.cuda(), neighbors.cuda(), *others, mask=mask.cuda(), impl="cuda")
    neighbors = torch.where(neighbors < 50, neighbors, -neighbors)
    arguments = x[:, :50].cuda(), neighbors[:, :50].cuda(), *others
    valid = None if share == 1 else mask[:, :50].cuda()
    torch.testing.assert_close(skelkern.edge_conv(*arguments, mask=valid, impl="cuda"), expected[:, :50])
    monkeypatch.setenv("SKELKERN_CHECKS", "1")
    with pytest.raises(ValueError, match=r"neighbors: expected values in \[0, 50\), found -5"):
        skelkern.edge_conv(*arguments, mask=valid, impl="cuda")
