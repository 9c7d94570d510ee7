"""Time of the graph convolution, forward and backward."""

import pytest
import torch

import skelkern


@pytest.mark.parametrize(("c", "c_out"), [(3, 64), (64, 64)])
def test_graph_conv(benchmark, c, c_out):
    x = torch.randn(16, c, 50, 25, requires_grad=True)
    weight, bias = torch.randn(3 * c_out, c, requires_grad=True), torch.randn(3 * c_out, requires_grad=True)
    adjacency = torch.eye(25).repeat(3, 1, 1).requires_grad_()
    leaves = (x, weight, bias, adjacency)

    def step():
        return torch.autograd.grad(skelkern.graph_conv(*leaves).sum(), leaves)

    assert all(gradient.isfinite().all() for gradient in benchmark(step))
