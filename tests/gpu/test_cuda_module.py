"""What can be said of the CUDA implementations without a GPU."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import skelkern
from skelkern import cuda_kernels
from skelkern.cuda_kernels import BUILT, cuda_module

ROOT = Path(__file__).parents[2]
POINTS, OTHERS = torch.empty(2, 7, 3, device="meta"), torch.empty(2, 5, 3, device="meta")
needs_module = pytest.mark.skipif(not BUILT, reason="this build has no CUDA kernels (nvcc was not found)")


def test_shapes_and_types_are_those_of_the_cpu():
    ops = torch.ops.skelkern
    for name, arguments in (("knn", (POINTS, 4, None)), ("farthest_points", (POINTS, 4, None, 0))):
        ours, cpu = (getattr(ops, f"{name}_{device}")(*arguments) for device in ("cuda", "cpu"))
        assert (ours.shape, ours.dtype) == (cpu.shape, cpu.dtype), name
    frames, whole = torch.empty(9, 2, 25, 3, device="meta"), torch.empty(3, dtype=torch.int64, device="meta")
    clips = ops.sample_clips_cuda(frames, whole, whole, torch.empty(3, 6, device="meta"), *(None,) * 5)
    assert (clips.shape, clips.dtype) == ((3, 3, 6, 25, 2), torch.float32)
    x = POINTS.clone().requires_grad_()
    to_y, to_x, of_x, of_y = ops.chamfer_cuda(x, OTHERS, None, None, None, True)
    assert (to_y.shape, to_x.shape, of_x.dtype, of_y.requires_grad) == ((2, 7), (2, 5), torch.int32, False)
    (gradient,) = torch.autograd.grad(to_y.sum() + to_x.sum(), x, create_graph=True)
    assert gradient.shape == x.shape
    with pytest.raises(RuntimeError, match="not twice differentiable, use impl='reference'"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (skelkern.knn, (torch.empty(1, 2**31, 1, device="meta"), 2)),
        (skelkern.farthest_point_sample, (torch.empty(1, 2**31, 1, device="meta"), 2)),
        (skelkern.chamfer_distance, (POINTS[:1, :, :1], torch.empty(1, 2**31, 1, device="meta"))),
    ],
)
def test_clouds_that_32_bits_cannot_number(function, arguments):
    reasons = skelkern.explain(function, *arguments).reasons["cuda"]
    assert "a cloud of 2147483648 points, not below 2147483648" in reasons


def edge_conv_arguments(n=7, k=3):
    """Of `edge_conv_cuda` up to the mask, on the meta device."""
    x = torch.empty(2, n, 5, device="meta", dtype=torch.bfloat16)
    neighbors = torch.empty(2, n, k, device="meta", dtype=torch.int64)
    weight, channels = torch.empty(9, 10, device="meta", dtype=torch.bfloat16), torch.empty(9, device="meta")
    return x, neighbors, weight, channels, channels, None, None, None


@pytest.mark.parametrize("keeps", [True, False])
def test_shapes_of_edge_conv_are_those_of_the_cpu(keeps):
    ours, cpu = (
        getattr(torch.ops.skelkern, f"edge_conv_{device}")(*edge_conv_arguments(), 1e-5, 0.2, "", keeps)
        for device in ("cuda", "cpu")
    )
    described = [[(one.shape, one.dtype) for one in results[:7]] for results in (ours, cpu)]
    assert described[0] == described[1]
    assert (ours[0].dtype, ours[7].shape, ours[7].dtype) == (torch.bfloat16, (2, 7), torch.int32)


def test_edge_conv_is_differentiable_once():
    arguments = [one.requires_grad_() if i in (0, 2, 3) else one for i, one in enumerate(edge_conv_arguments())]
    y, mean, *_ = torch.ops.skelkern.edge_conv_cuda(*arguments, 1e-5, 0.2, "", True)
    assert not mean.requires_grad
    leaves = [arguments[i] for i in (0, 2, 3)]
    gradients = torch.autograd.grad(y.sum(), leaves, create_graph=True)
    assert [(g.shape, g.dtype) for g in gradients] == [(leaf.shape, leaf.dtype) for leaf in leaves]
    with pytest.raises(RuntimeError, match="not twice differentiable, use impl='reference'"):
        gradients[0].sum().backward()


@pytest.mark.parametrize(
    ("n", "k", "reason"),
    [
        (7, 257, "257 neighbours, more than 256"),
        (2**24, 1, "a cloud of 16777216 points and 16777216 edges, not below 16777216 and 2147483648"),
        (2**23, 256, "a cloud of 8388608 points and 2147483648 edges"),
    ],
)
def test_clouds_that_are_too_large_for_edge_conv(n, k, reason):
    x, neighbors, weight, gamma, beta, *_ = edge_conv_arguments(n, k)
    explanation = skelkern.explain(skelkern.edge_conv, x, neighbors, weight, gamma, beta)
    assert any(reason in one for one in explanation.reasons["cuda"])


def test_tensors_of_the_cpu_are_refused_in_words():
    points = torch.randn(2, 7, 3, device="cpu")
    with pytest.raises(ValueError, match="impl='cuda' cannot run here: .*a tensor is on cpu"):
        skelkern.knn(points, 2, impl="cuda")
    assert "a tensor is on cpu" in str(skelkern.explain(skelkern.farthest_point_sample, points, 2))


def test_a_build_without_kernels_says_so(monkeypatch):
    monkeypatch.setattr(cuda_kernels, "BUILT", False)
    with pytest.raises(ValueError, match="skelkern was built without CUDA"):
        skelkern.knn(torch.randn(2, 7, 3), 2, impl="cuda")


def test_the_module_is_imported_when_it_is_needed():
    script = "import sys, skelkern; print('skelkern._cuda' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False"]


@needs_module
def test_the_module_needs_no_driver_and_no_cuda_library():
    assert "compute capability" in cuda_module().built_for()
    linked = subprocess.run(["ldd", cuda_module().__file__], capture_output=True, text=True, check=True).stdout
    assert "libcu" not in linked


def calls(batch: int) -> dict[str, Callable[[], object]]:
    """A call of every entry point with nothing at its addresses, by kernel."""
    module, sizes = cuda_module(), (batch, 5, 2, 3, 4)
    return {
        "knn_by_subtraction": lambda: module.knn(0, 0, (batch, 5, 3, 2), (0, 0), 0, 0),
        "knn_centres": lambda: module.knn(0, 0, (batch, 5, 30, 2), (0, 0), 0, 0),
        "farthest_points": lambda: module.farthest_points(0, 0, (batch, 5, 3, 2), 0, (0, 0), 0, 0),
        "sample_clips": lambda: module.sample_clips((0,) * 9, False, (9, 2, 25, 3, 2, batch, 7), (0, 0), 0),
        "chamfer": lambda: module.chamfer_forward((0,) * 5, (batch, 4, 5, 3), True, (0, 0), (0,) * 4),
        "edge_conv_gather": lambda: module.edge_conv_gather((0,) * 5, sizes, (0, 0), 0, (0,) * 3, 0, (0,) * 4),
        "edge_conv_finish": lambda: module.edge_conv_finish((0,) * 5, sizes, (0, 0), (0,) * 3, 0.2, 0, 0, 0),
        "edge_conv_reverse": lambda: module.edge_conv_backward(
            (0,) * 5, sizes, (0, 0), (0,) * 3, 0.2, (0,) * 3, (0,) * 4, 0, 0
        ),
    }


@needs_module
@pytest.mark.skipif(torch.cuda.is_available(), reason="without a driver, every launch fails")
@pytest.mark.parametrize(
    "kernel",
    [
        *("knn_by_subtraction", "knn_centres", "farthest_points", "sample_clips", "chamfer"),
        *("edge_conv_gather", "edge_conv_finish", "edge_conv_reverse"),
    ],
)
def test_nothing_is_launched_for_empty_batches(kernel):
    calls(batch=0)[kernel]()
    with pytest.raises(RuntimeError, match=f"CUDA kernel {kernel}"):
        calls(batch=1)[kernel]()
