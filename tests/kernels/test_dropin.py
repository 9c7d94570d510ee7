"""accelerate on the field's modules, written here in their usual form, and on modules that only look like them."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import skelkern
from skelkern.dropin import accelerate, restore

JOINTS = 25


class GraphUnit(nn.Module):
    """ST-GCN's: subsets from one convolution, then the product with the graph."""

    def __init__(self, in_channels=6, out_channels=8, subsets=3):
        super().__init__()
        self.kernel_size = subsets
        self.conv = nn.Conv2d(in_channels, out_channels * subsets, 1)

    def product(self, y, A):
        return torch.einsum("nkctv,kvw->nctw", y, A)

    def forward(self, x, A):
        y = self.conv(x).unflatten(1, (self.kernel_size, -1))
        return self.product(y, A).contiguous(), A


class TransposedGraphUnit(GraphUnit):
    def product(self, y, A):
        return torch.einsum("nkctw,kvw->nctv", y, A)


class InterleavedGraphUnit(GraphUnit):
    """Subsets vary faster than channels."""

    def forward(self, x, A):
        y = self.conv(x).unflatten(1, (-1, self.kernel_size)).transpose(1, 2)
        return self.product(y, A), A


class GraphBlock(nn.Module):
    def __init__(self, in_channels=6, out_channels=8, stride=1, dropout=0.0, residual=True, unit=GraphUnit):
        super().__init__()
        self.gcn = unit(in_channels, out_channels)
        self.tcn = nn.Sequential(
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, (9, 1), (stride, 1), (4, 0)),
            nn.BatchNorm2d(out_channels),
            nn.Dropout(dropout, inplace=True),
        )
        if not residual:
            self.residual = nothing
        elif in_channels == out_channels and stride == 1:
            self.residual = same
        else:
            self.residual = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, (stride, 1)), nn.BatchNorm2d(out_channels)
            )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x, A):
        residual = self.residual(x)
        y, A = self.gcn(x, A)
        return self.relu(self.tcn(y) + residual), A


def nothing(x):
    return 0


def same(x):
    return x


class ResidualInsideReLU(GraphBlock):
    """The ReLU before the sum."""

    def forward(self, x, A):
        residual = self.residual(x)
        y, A = self.gcn(x, A)
        return self.relu(self.tcn(y)) + residual, A


class AdaptiveUnit(nn.Module):
    """2s-AGCN's."""

    softmax_dim = -2
    share_of_length = 1.0

    def __init__(self, in_channels=6, out_channels=8, subsets=3):
        super().__init__()
        self.inter_c, self.num_subset = out_channels // 4, subsets
        self.A = torch.rand(subsets, JOINTS, JOINTS)
        self.PA = nn.Parameter(torch.full((subsets, JOINTS, JOINTS), 1e-6))
        self.conv_a, self.conv_b, self.conv_d = (
            nn.ModuleList(nn.Conv2d(in_channels, width, 1) for _ in range(subsets))
            for width in (self.inter_c, self.inter_c, out_channels)
        )
        self.down = same
        if in_channels != out_channels:
            self.down = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels))
        self.bn = nn.BatchNorm2d(out_channels)
        self.soft = nn.Softmax(self.softmax_dim)
        self.relu = nn.ReLU()
        nn.init.constant_(self.bn.weight, 1e-6)

    def forward(self, x):
        n, _, t, v = x.shape
        y = 0
        for i in range(self.num_subset):
            first = self.conv_a[i](x).permute(0, 3, 1, 2).reshape(n, v, self.inter_c * t)
            second = self.conv_b[i](x).reshape(n, self.inter_c * t, v)
            found = self.soft(first @ second / (self.share_of_length * first.shape[-1]))
            graph = found + (self.A[i] + self.PA[i])
            y = self.conv_d[i](torch.einsum("nctv,nvw->nctw", x, graph)) + y
        return self.relu(self.bn(y) + self.down(x))


class OtherSoftmax(AdaptiveUnit):
    softmax_dim = -1


class OtherScaling(AdaptiveUnit):
    share_of_length = 0.5


class AdaptiveBlock(nn.Module):
    def __init__(self, in_channels=6, out_channels=8, stride=1, unit=AdaptiveUnit):
        super().__init__()
        self.gcn1 = unit(in_channels, out_channels)
        self.tcn1 = TemporalUnit(out_channels, out_channels, 9, stride)
        self.relu = nn.ReLU()
        self.residual = same
        if in_channels != out_channels or stride != 1:
            self.residual = TemporalUnit(in_channels, out_channels, 1, stride)

    def forward(self, x):
        return self.relu(self.tcn1(self.gcn1(x)) + self.residual(x))


class TemporalUnit(nn.Module):
    def __init__(self, in_channels=6, out_channels=8, kernel=9, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, (kernel, 1), (stride, 1), (kernel // 2, 0))
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.bn(self.conv(x))


class TemporalUnitWithReLU(TemporalUnit):
    def forward(self, x):
        return self.relu(self.bn(self.conv(x)))


def graph():
    return torch.rand(3, JOINTS, JOINTS) * (torch.rand(3, JOINTS, JOINTS) < 0.3)


def clip():
    return torch.randn(4, 6, 20, JOINTS)


MODELS = {
    "graph unit": (GraphUnit, (clip, graph), 1),
    "first block": (lambda: GraphBlock(residual=False), (clip, graph), 2),
    "block": (lambda: GraphBlock(6, 6), (clip, graph), 2),
    "strided block": (lambda: GraphBlock(stride=2), (clip, graph), 2),
    "adaptive unit": (AdaptiveUnit, (clip,), 1),
    "adaptive block": (lambda: AdaptiveBlock(6, 8, 2), (clip,), 3),
    "temporal unit": (TemporalUnit, (clip,), 1),
}


def step(model, inputs, training=True):
    model.train(training)
    leaves = [value.clone().requires_grad_() for value in inputs]
    found = model(*leaves)
    y = found[0] if isinstance(found, tuple) else found
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    gradients = torch.autograd.grad(y, [*leaves, *model.parameters()], cotangent, allow_unused=True)
    return y, [torch.zeros(()) if gradient is None else gradient for gradient in gradients]


def assert_alike(model, original, inputs):
    """Outputs, gradients and buffers in both modes."""
    for training in (True, False):
        (y, gradients), (expected, expected_gradients) = (step(m, inputs, training) for m in (model, original))
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
        largest = max(gradient.abs().max() for gradient in expected_gradients)
        for found, gradient in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(found, gradient, rtol=1e-3, atol=1e-5 * float(largest))
    for name, value in original.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-4, atol=1e-5)


@pytest.fixture(params=MODELS)
def accelerated(request):
    """(original, accelerated copy, inputs, report)"""
    make, inputs, count = MODELS[request.param]
    torch.manual_seed(0)
    original = make()
    model = copy.deepcopy(original)
    report = accelerate(model)
    assert len(report.replaced) == count, str(report)
    return original, model, [value() for value in inputs], report


def test_computes_the_same(accelerated):
    original, model, inputs, _ = accelerated
    assert_alike(model, original, inputs)


def test_nothing_else_changes(accelerated):
    original, model, _, _ = accelerated
    assert list(model.state_dict()) == list(original.state_dict())
    assert isinstance(model, type(original))
    assert type(model).__name__ == type(original).__name__
    for name, value in original.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_restore_gives_the_classes_back(accelerated):
    original, model, inputs, report = accelerated
    assert restore(model) == len(report.replaced)
    assert [type(part) for part in model.modules()] == [type(part) for part in original.modules()]
    assert restore(model) == 0
    for found, expected in zip(step(model, inputs)[1], step(original, inputs)[1], strict=True):
        assert torch.equal(found, expected)


def test_again_changes_nothing(accelerated):
    _, model, _, _ = accelerated
    kinds = [type(part) for part in model.modules()]
    assert accelerate(model).replaced == []
    assert [type(part) for part in model.modules()] == kinds


def test_copies_and_pickles(accelerated):
    original, model, inputs, report = accelerated
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(buffer, weights_only=False)):
        assert [type(part) for part in twin.modules()] == [type(part) for part in model.modules()]
        assert_alike(twin, copy.deepcopy(original), inputs)
        assert restore(twin) == len(report.replaced)


def test_optimizers_and_hooks_go_on(accelerated):
    original, _, inputs, _ = accelerated
    model, calls = copy.deepcopy(original), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.register_forward_hook(lambda *_: calls.append(1))
    parameters = list(model.parameters())
    accelerate(model)
    before = [parameter.detach().clone() for parameter in parameters]
    found = model(*inputs)
    (found[0] if isinstance(found, tuple) else found).square().sum().backward()
    optimizer.step()
    assert calls == [1]
    assert any(not torch.equal(old, new) for old, new in zip(before, parameters, strict=True))


NEAR_MISSES = {
    "other einsum": (TransposedGraphUnit, (clip, graph), "output 0 (training): error"),
    "other order of subsets": (InterleavedGraphUnit, (clip, graph), "output 0 (training): error"),
    "ReLU before the sum": (lambda: ResidualInsideReLU(6, 6), (clip, graph), "output 0 (training): error"),
    "other softmax": (OtherSoftmax, (clip,), "output 0 (training): error"),
    "other scaling": (OtherScaling, (clip,), "output 0 (training): error"),
    "ReLU within the unit": (TemporalUnitWithReLU, (clip,), "output 0 (training): error"),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_near_misses_are_left_with_a_reason(name):
    make, inputs, reason = NEAR_MISSES[name]
    torch.manual_seed(0)
    original = make()
    model = copy.deepcopy(original)
    report = accelerate(model)
    assert reason in report.entries[0].reason, str(report)
    assert type(model) is type(original)
    assert_alike(model, original, [value() for value in inputs])


def test_a_hook_on_a_fused_part_keeps_the_block():
    model = GraphBlock(6, 6)
    model.tcn[0].register_forward_hook(lambda *_: None)
    report = accelerate(model)
    assert "a hook on tcn would not run any more" in report.entries[0].reason
    assert "gcn" in [entry.name for entry in report.replaced]


def test_other_dtypes_are_left():
    report = accelerate(GraphUnit().double())
    assert "its parameters are torch.float64" in report.entries[0].reason


def test_proof_leaves_random_numbers_and_buffers_alone():
    model = GraphBlock(6, 6)
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    accelerate(model)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())


def test_torchs_own_layers():
    model = nn.Sequential(
        nn.Conv2d(6, 8, (3, 1), 2, (1, 0)), nn.Conv2d(6, 8, (3, 1), (2, 1), (1, 0)), nn.BatchNorm2d(8)
    )
    model.append(nn.Dropout(0.5))
    report = accelerate(model)
    assert [entry.name for entry in report.replaced] == ["1", "2", "3"]
    x = torch.randn(64, 6, 60, 25)
    original = copy.deepcopy(model)
    restore(original)
    torch.testing.assert_close(model[1](x), original[1](x), rtol=1e-4, atol=1e-5)
    y = torch.randn(64, 8, 60, 25)
    torch.testing.assert_close(model[2](y), original[2](y), rtol=1e-4, atol=1e-5)
    with skelkern.use("reference"):
        torch.testing.assert_close(model[1](x), original[1](x))
    assert abs((model[3](torch.ones_like(y)) == 0).float().mean() - 0.5) < 0.01


def test_report_is_readable():
    text = str(accelerate(nn.Sequential(GraphBlock(6, 6), OtherSoftmax())))
    assert text.splitlines()[0] == "14 of 15 candidates replaced"  # what the unit is made of can be replaced
    assert "0: GraphBlock, ST-GCN's block: replaced (errors: output" in text
    assert "1: OtherSoftmax, 2s-AGCN's adaptive graph convolution: left, output 0 (training): error" in text
