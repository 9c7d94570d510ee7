"""Modules made of several ops against the plain modules they stand for."""

import copy
import gc

import pytest
import torch
from test_every_op import RecordKernels
from torch import nn

from skelkern import gpu
from skelkern.dispatch import OPS
from skelkern.nn import Dropout, STGCNBlock


class Plain(nn.Module):
    """ST-GCN's block as the field writes it."""

    def __init__(self, in_channels, out_channels, subsets, stride=1, dropout=0.0, residual=True):
        super().__init__()
        self.gcn = nn.Module()
        self.gcn.conv = nn.Conv2d(in_channels, subsets * out_channels, 1)
        self.tcn = nn.Sequential(
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, (9, 1), (stride, 1), (4, 0)),
            nn.BatchNorm2d(out_channels),
            nn.Dropout(dropout),
        )
        self.shortcut = "none" if not residual else "identity"
        if residual and (in_channels != out_channels or stride != 1):
            self.shortcut = "convolution"
            self.residual = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, (stride, 1)), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x, adjacency):
        y = self.gcn.conv(x).unflatten(1, (adjacency.shape[0], -1))
        y = self.tcn(torch.einsum("nkctv,kvw->nctw", y, adjacency))
        if self.shortcut != "none":
            y = y + (self.residual(x) if self.shortcut == "convolution" else x)
        return torch.relu(y)


# in, out, stride, residual
BLOCKS = [
    ((3, 8, 1, False), torch.contiguous_format),
    ((8, 8, 1, True), torch.channels_last),
    ((8, 12, 2, True), torch.channels_last),
    pytest.param((8, 8, 2, True), torch.contiguous_format, marks=pytest.mark.large),
]


@pytest.mark.parametrize(("arguments", "memory_format"), BLOCKS, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_stgcn_block_is_the_plain_block(arguments, training, memory_format):
    in_channels, out_channels, stride, residual = arguments
    options = {"subsets": 3, "stride": stride, "residual": residual}
    theirs = Plain(in_channels, out_channels, **options).double().train(training)
    ours = STGCNBlock(in_channels, out_channels, **options).train(training)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.5)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    n, frames = (2, 9) if gpu.INTERPRETED else (6, 21)
    x = torch.randn(n, in_channels, frames, 7).to(memory_format=memory_format)
    adjacency = torch.rand(3, 7, 7) * (torch.rand(3, 7, 7) < 0.4)
    results = []
    for block, dtype in ((ours, torch.float32), (theirs, torch.float64)):
        leaves = [value.to(dtype).requires_grad_() for value in (x, adjacency)]
        y = block(*leaves)
        cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(0)).to(dtype)
        results.append((y, *torch.autograd.grad(y, [*leaves, *block.parameters()], cotangent)))
    largest = max(gradient.double().norm() for gradient in results[1][1:])
    for found, expected in zip(*results, strict=True):
        assert (found - expected).norm() < 1e-5 * (largest if found is not results[0][0] else expected.norm())
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value.to(ours.state_dict()[name].dtype))


@pytest.mark.parametrize("training", [True, False])
def test_stgcn_block_runs_the_kernels_that_there_are(training, kernel):
    """What an implementation lacks is computed by torch's operators."""
    names = ("graph_conv", "temporal_conv", "block_tail")
    expected = {name for name in names if any(each.name == kernel for each in OPS[name].implementations)}
    block = STGCNBlock(4, 6, 2, dropout=0.5).train(training)
    with RecordKernels() as record:
        block(torch.randn(3, 4, 9, 5), torch.rand(2, 5, 5)).sum().backward()
    found = {op.name().removeprefix("skelkern::").removesuffix("_backward") for op, _ in record.calls}
    assert found == {f"{name}_{kernel}" for name in expected}


def test_stgcn_block_starts_as_the_plain_block_does():
    torch.manual_seed(0)
    theirs = Plain(8, 12, 3, stride=2).state_dict()
    torch.manual_seed(0)
    ours = STGCNBlock(8, 12, 3, stride=2).state_dict()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


def test_stgcn_block_refuses_an_even_kernel():
    with pytest.raises(ValueError, match="kernel: expected an odd number of frames, found 4"):
        STGCNBlock(3, 8, 3, kernel=4)


def test_stgcn_block_can_be_copied_and_counts_batches():
    block = STGCNBlock(4, 4, 2)
    block(torch.randn(3, 4, 9, 5), torch.rand(2, 5, 5))
    twin = copy.deepcopy(block)
    for name in ("tcn.0.num_batches_tracked", "tcn.3.num_batches_tracked"):
        assert twin.state_dict()[name] == 1


def saved_bytes(block: nn.Module, x: torch.Tensor, *others: torch.Tensor) -> int:
    """Bytes kept for backward beyond inputs and parameters, every storage once."""
    kept = {}
    known = {tensor.data_ptr() for tensor in (x, *others, *block.parameters(), *block.buffers())}

    def pack(tensor):
        if tensor.data_ptr() not in known:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = block(x, *others)
    gc.collect()
    assert y.requires_grad
    return sum(kept.values())


@pytest.mark.cpu_kernel
@pytest.mark.parametrize("stride", [1, 2])
def test_stgcn_block_keeps_less_than_half_of_the_plain_block(stride):
    x, adjacency = torch.randn(32, 16, 50, 25, requires_grad=True), torch.rand(3, 25, 25, requires_grad=True)
    arguments = {"subsets": 3, "stride": stride, "dropout": 0.5}
    theirs = saved_bytes(Plain(16, 16, **arguments), x, adjacency)
    ours = saved_bytes(STGCNBlock(16, 16, **arguments), x, adjacency)
    assert ours < 0.5 * theirs, (ours, theirs)


@pytest.mark.large
def test_dropout_draws_shares_and_gradients():
    module, x = Dropout(0.3), torch.ones(64, 32, 50, requires_grad=True)
    torch.manual_seed(0)
    first, second = module(x), module(x)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(module(x), first)
    torch.testing.assert_close(first.unique(), torch.tensor([0.0, 1 / 0.7]))
    assert abs((first > 0).float().mean() - 0.7) < 4 * (0.21 / x.numel()) ** 0.5
    (gradient,) = torch.autograd.grad(first.sum(), x)
    assert torch.equal(gradient, first)
    assert torch.equal(module.eval()(x), x)


@pytest.mark.large
@pytest.mark.parametrize("shape", [(33001,), (7, 4999), (3, 5, 1171, 2)], ids=str)
def test_dropout_of_any_shape(shape):
    x = torch.rand(shape) + 1
    y = Dropout(0.5)(x)
    assert y.shape == x.shape
    torch.testing.assert_close(y[y != 0], 2 * x[y != 0])
    assert abs((y != 0).float().mean() - 0.5) < 4 * (0.25 / x.numel()) ** 0.5


def test_dropout_keeps_no_mask():
    x = torch.ones(64, 32, 50, requires_grad=True)
    assert saved_bytes(Dropout(0.3), x) < 1000 < saved_bytes(nn.Dropout(0.3), x)


def test_dropout_leaves_small_double_and_extreme_cases_to_torch():
    for x in (torch.ones(20), torch.ones(2**16, dtype=torch.float64)):
        torch.manual_seed(0)
        found = Dropout(0.4)(x)
        torch.manual_seed(0)
        assert torch.equal(found, nn.Dropout(0.4)(x))
    assert not Dropout(1.0)(torch.ones(2**16)).any()
    assert torch.equal(Dropout(0.0)(torch.ones(2**16)), torch.ones(2**16))
