"""That the guards around interpreted kernels see what they are there for (`pytest --impl triton`)."""

import pytest
import torch
from guards import guarded_launch

from skelkern import gpu

if not gpu.INTERPRETED:
    pytest.skip("needs TRITON_INTERPRET=1", allow_module_level=True)
triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")


@triton.jit
def shift_kernel(x, y, n, by, BLOCK: tl.constexpr):
    """y[i] = x[i + by] for i below n, whether x has them or not."""
    i = tl.arange(0, BLOCK)
    tl.store(y + i, tl.load(x + i + by, mask=i < n), mask=i < n)


def shift(x, y, n, by):
    guarded_launch(shift_kernel, (1,), x, y, n, by, BLOCK=16, device=x.device, warps=1)


def test_reads_and_writes_inside_pass():
    x, y = torch.arange(12.0), torch.empty(12)
    shift(x, y[:10], 10, 2)
    assert torch.equal(y[:10], x[2:])
    assert y[10:].isnan().all(), "what a kernel does not write is NaN"


@pytest.mark.parametrize("by", [-1, 1])
def test_reading_outside_gives_nan(by):
    y = torch.zeros(12)
    shift(torch.arange(12.0), y, 12, by)
    assert y[-1 if by > 0 else 0].isnan()


def test_writing_behind_a_buffer_is_reported():
    with pytest.raises(AssertionError, match="shift_kernel wrote behind a buffer"):
        shift(torch.arange(16.0), torch.zeros(15), 16, 0)


def test_writing_before_a_buffer_is_reported():
    buffer = torch.zeros(16)
    with pytest.raises(AssertionError, match="shift_before_kernel wrote before a buffer"):
        guarded_launch(shift_before_kernel, (1,), buffer, BLOCK=16, device=buffer.device, warps=1)


@triton.jit
def shift_before_kernel(y, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(y + i - 1, i.to(tl.float32))
