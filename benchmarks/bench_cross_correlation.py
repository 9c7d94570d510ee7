"""Time of the cross-correlation loss, forward and backward."""

import pytest
import torch

import skelkern


@pytest.mark.parametrize(("n", "d"), [(128, 1024), (128, 6144)])
def test_cross_correlation(benchmark, n, d):
    z1, z2 = (torch.randn(n, d, requires_grad=True) for _ in range(2))

    def step():
        return torch.autograd.grad(skelkern.cross_correlation_loss(z1, z2, 2e-4), (z1, z2))

    assert all(gradient.isfinite().all() for gradient in benchmark(step))
