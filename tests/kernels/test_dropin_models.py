"""accelerate on pyskl's, CTR-GCN's, DGCNN's and FoldingNet's modules, written here in their usual form."""

import copy

import pytest
import torch
from test_dropin import assert_alike, nothing, same
from torch import nn

from skelkern.dropin import accelerate

JOINTS = 25


def shortcut(in_channels, out_channels):
    if in_channels == out_channels:
        return same
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels))


class SkeletonUnit(nn.Module):
    """pyskl's graph convolution."""

    def __init__(self, in_channels=6, out_channels=8, adaptive="importance", conv_pos="pre", with_res=False):
        super().__init__()
        self.in_channels, self.num_subsets = in_channels, 3
        self.adaptive, self.conv_pos, self.with_res = adaptive, conv_pos, with_res
        graph = torch.rand(3, JOINTS, JOINTS) * (torch.rand(3, JOINTS, JOINTS) < 0.3)
        if adaptive == "init":
            self.A = nn.Parameter(graph)
        else:
            self.register_buffer("A", graph)
        if adaptive in ("offset", "importance"):
            self.PA = nn.Parameter(torch.full_like(graph, 1.0 if adaptive == "importance" else 1e-6))
        shape = (in_channels, 3 * out_channels) if conv_pos == "pre" else (3 * in_channels, out_channels)
        self.conv, self.bn, self.act = nn.Conv2d(*shape, 1), nn.BatchNorm2d(out_channels), nn.ReLU()
        if with_res:
            self.down = shortcut(in_channels, out_channels)

    def graph(self):
        return {"offset": lambda: self.A + self.PA, "importance": lambda: self.A * self.PA}.get(
            self.adaptive, lambda: self.A
        )()

    def forward(self, x, A=None):
        if self.conv_pos == "pre":
            y = torch.einsum("nkctv,kvw->nctw", self.conv(x).unflatten(1, (3, -1)), self.graph())
        else:
            y = self.conv(torch.einsum("nctv,kvw->nkctw", x, self.graph()).flatten(1, 2))
        return self.act(self.bn(y) + (self.down(x) if self.with_res else 0))


class SkeletonTemporalUnit(nn.Module):
    def __init__(self, in_channels, out_channels, kernel=9, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, (kernel, 1), (stride, 1), (kernel // 2, 0))
        self.bn, self.drop = nn.BatchNorm2d(out_channels), nn.Dropout(0.0, inplace=True)

    def forward(self, x):
        return self.drop(self.bn(self.conv(x)))


class SkeletonBlock(nn.Module):
    def __init__(self, in_channels=6, out_channels=8, stride=2):
        super().__init__()
        self.gcn = SkeletonUnit(in_channels, out_channels)
        self.tcn = SkeletonTemporalUnit(out_channels, out_channels, 9, stride)
        self.relu = nn.ReLU()
        changes = in_channels != out_channels or stride != 1
        self.residual = SkeletonTemporalUnit(in_channels, out_channels, 1, stride) if changes else nothing

    def forward(self, x, A=None):
        return self.relu(self.tcn(self.gcn(x, A)) + self.residual(x))


class AttentiveUnit(nn.Module):
    """2s-AGCN's graph convolution with attention."""

    def __init__(self, in_channels=6, out_channels=8, adaptive=True, attention=True):
        super().__init__()
        self.adaptive, self.attention, width = adaptive, attention, out_channels // 4
        self.conv_d = nn.ModuleList(nn.Conv2d(in_channels, out_channels, 1) for _ in range(3))
        graph = torch.rand(3, JOINTS, JOINTS)
        if adaptive:
            self.A, self.alpha = nn.Parameter(graph), nn.Parameter(torch.zeros(1))
            self.conv_a = nn.ModuleList(nn.Conv2d(in_channels, width, 1) for _ in range(3))
            self.conv_b = nn.ModuleList(nn.Conv2d(in_channels, width, 1) for _ in range(3))
        else:
            self.register_buffer("A", graph)
        if attention:
            self.conv_ta = nn.Conv1d(out_channels, 1, 9, padding=4)
            self.conv_sa = nn.Conv1d(out_channels, 1, JOINTS, padding=JOINTS // 2)
            self.fc1c, self.fc2c = (
                nn.Linear(out_channels, out_channels // 2),
                nn.Linear(out_channels // 2, out_channels),
            )
        self.down, self.bn = shortcut(in_channels, out_channels), nn.BatchNorm2d(out_channels)
        self.tan, self.sigmoid, self.relu = nn.Tanh(), nn.Sigmoid(), nn.ReLU(inplace=True)

    def forward(self, x):
        y = 0
        for i in range(3):
            graph = self.A[i]
            if self.adaptive:
                first, second = self.conv_a[i](x), self.conv_b[i](x)
                products = torch.einsum("nctv,nctw->nvw", first, second) / (first.shape[1] * first.shape[2])
                graph = graph + self.tan(products) * self.alpha
            y = y + self.conv_d[i](torch.einsum(f"nctv,{'n' if self.adaptive else ''}vw->nctw", x, graph))
        y = self.relu(self.bn(y) + self.down(x))
        if self.attention:
            y = y + y * self.sigmoid(self.conv_sa(y.mean(-2))).unsqueeze(-2)
            y = y + y * self.sigmoid(self.conv_ta(y.mean(-1))).unsqueeze(-1)
            y = y + y * self.sigmoid(self.fc2c(self.relu(self.fc1c(y.mean((-1, -2))))))[..., None, None]
        return y


class ChannelGraph(nn.Module):
    """CTR-GCN's subset."""

    formula = "ncuv,nctv->nctu"

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(in_channels, 4, 1), nn.Conv2d(in_channels, 4, 1)
        self.conv3, self.conv4, self.tanh = (
            nn.Conv2d(in_channels, out_channels, 1),
            nn.Conv2d(4, out_channels, 1),
            nn.Tanh(),
        )

    def forward(self, x, A, alpha):
        first, second = self.conv1(x).mean(-2), self.conv2(x).mean(-2)
        graph = self.conv4(self.tanh(first.unsqueeze(-1) - second.unsqueeze(-2))) * alpha + A
        return torch.einsum(self.formula, graph, self.conv3(x))


class TransposedChannelGraph(ChannelGraph):
    """As pyskl has it."""

    formula = "ncuv,nctu->nctv"


class ChannelUnit(nn.Module):
    def __init__(self, subset=ChannelGraph, name="PA", in_channels=6, out_channels=8):
        super().__init__()
        self.convs = nn.ModuleList(subset(in_channels, out_channels) for _ in range(3))
        self.register_parameter(name, nn.Parameter(torch.rand(3, JOINTS, JOINTS)))
        self.alpha, self.down = nn.Parameter(torch.zeros(1)), shortcut(in_channels, out_channels)
        self.bn, self.relu = nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)

    def forward(self, x):
        graph = self.PA if hasattr(self, "PA") else self.A
        y = sum(unit(x, graph[i], self.alpha) for i, unit in enumerate(self.convs))
        return self.relu(self.bn(y) + self.down(x))


class ScaledChannelGraph(ChannelGraph):
    """The share also of the graph that is added."""

    def forward(self, x, A, alpha):
        return super().forward(x, A * (1 + alpha), alpha)


class PointClassifier(nn.Module):
    """DGCNN's."""

    def __init__(self, k=5, width=16):
        super().__init__()
        self.k = k
        channels = [3, 8, 8, 12, 16]
        for i in range(4):
            setattr(self, f"bn{i + 1}", nn.BatchNorm2d(channels[i + 1]))
            layers = nn.Conv2d(2 * channels[i], channels[i + 1], 1, bias=False), getattr(self, f"bn{i + 1}")
            setattr(self, f"conv{i + 1}", nn.Sequential(*layers, nn.LeakyReLU(0.2)))
        self.bn5, self.bn6, self.bn7 = nn.BatchNorm1d(width), nn.BatchNorm1d(10), nn.BatchNorm1d(9)
        self.conv5 = nn.Sequential(nn.Conv1d(sum(channels[1:]), width, 1, bias=False), self.bn5, nn.LeakyReLU(0.2))
        self.linear1, self.dp1 = nn.Linear(2 * width, 10, bias=False), nn.Dropout(0.0)
        self.linear2, self.dp2, self.linear3 = nn.Linear(10, 9), nn.Dropout(0.0), nn.Linear(9, 4)

    def edges(self, x):
        """x (B, C, N) -> (B, 2C, N, k)"""
        neighbors = torch.cdist(x.mT, x.mT).topk(self.k, largest=False).indices
        near = (
            x.unsqueeze(2)
            .expand(-1, -1, x.shape[2], -1)
            .gather(3, neighbors.unsqueeze(1).expand(-1, x.shape[1], -1, -1))
        )
        centre = x.unsqueeze(3).expand_as(near)
        return torch.cat([near - centre, centre], dim=1)

    def forward(self, x):
        found = []
        for layers in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = layers(self.edges(x)).amax(dim=-1)
            found.append(x)
        x = self.conv5(torch.cat(found, dim=1))
        x = torch.cat([x.max(dim=2).values, x.mean(dim=2)], dim=1)
        x = self.dp1(nn.functional.leaky_relu(self.bn6(self.linear1(x)), 0.2))
        return self.linear3(self.dp2(nn.functional.leaky_relu(self.bn7(self.linear2(x)), 0.2)))


class OtherEdges(PointClassifier):
    """The point before the difference."""

    def edges(self, x):
        difference, centre = super().edges(x).chunk(2, dim=1)
        return torch.cat([centre, difference], dim=1)


class Decoder(nn.Module):
    """FoldingNet's."""

    def __init__(self, width=20):
        super().__init__()
        self.m = 36
        self.folding1, self.folding2 = (
            nn.Sequential(
                *(nn.Conv1d(width + extra, width, 1), nn.ReLU(), nn.Conv1d(width, width, 1), nn.ReLU()),
                nn.Conv1d(width, 3, 1),
            )
            for extra in (2, 3)
        )

    def build_grid(self, batch):
        axis = torch.linspace(-0.3, 0.3, 6)
        return torch.cartesian_prod(axis, axis).repeat(batch, 1, 1)

    def forward(self, x):
        code = x.transpose(1, 2).repeat(1, 1, self.m)
        folded = self.folding1(torch.cat([code, self.build_grid(len(x)).to(x).transpose(1, 2)], dim=1))
        return self.folding2(torch.cat([code, folded], dim=1)).transpose(1, 2)


class Depthwise(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.dw_conv = nn.Conv1d(channels, channels, 5, 1, 2, groups=channels)

    def forward(self, x):
        return self.dw_conv(x.transpose(1, 2)).transpose(1, 2)


class Downsampling(nn.Module):
    """HiCo's, between two levels of its hierarchy."""

    def __init__(self, channels=20, factor=2):
        super().__init__()
        self.conv = Depthwise(channels)
        self.norm = nn.LayerNorm(channels)
        self.relu = nn.ReLU(True)
        self.maxpooling = nn.MaxPool1d(factor)

    def pool(self, x):
        return self.maxpooling(x.transpose(1, 2)).transpose(1, 2)

    def forward(self, x):
        return self.pool(self.relu(self.norm(self.conv(x))))


class NormBehindPooling(Downsampling):
    def forward(self, x):
        return self.relu(self.norm(self.pool(self.conv(x))))


def clip():
    return torch.randn(4, 6, 20, JOINTS)


MODELS = {
    **{
        f"pyskl {adaptive} {place} {residual}": (
            lambda options=(adaptive, place, residual): SkeletonUnit(6, 8, *options),
            clip,
        )
        for adaptive, place, residual in (
            ("importance", "pre", False),
            (None, "pre", True),
            ("init", "post", True),
            ("offset", "post", False),
        )
    },
    "pyskl block": (SkeletonBlock, clip),
    "attention": (AttentiveUnit, clip),
    "no attention": (lambda: AttentiveUnit(attention=False), clip),
    "not adaptive": (lambda: AttentiveUnit(adaptive=False), clip),
    "CTR-GCN": (ChannelUnit, clip),
    "CTR-GCN of pyskl": (lambda: ChannelUnit(TransposedChannelGraph, "A"), clip),
    "DGCNN": (PointClassifier, lambda: torch.randn(6, 3, 33)),
    "FoldingNet": (Decoder, lambda: torch.randn(4, 1, 20)),
    "HiCo": (Downsampling, lambda: torch.randn(4, 25, 20)),
    "HiCo by threes": (lambda: Downsampling(factor=3), lambda: torch.randn(4, 25, 20)),
}


@pytest.mark.parametrize("name", MODELS)
def test_computes_the_same(name):
    make, inputs = MODELS[name]
    torch.manual_seed(0)
    original = make()
    for parameter in original.parameters():
        nn.init.normal_(parameter, std=0.5)
    model = copy.deepcopy(original)
    report = accelerate(model)
    assert report.entries[0].name == "" and not report.entries[0].reason, str(report)
    assert list(model.state_dict()) == list(original.state_dict())
    assert_alike(model, original, [inputs()])


NEAR_MISSES = {
    "transposed graph": lambda: ChannelUnit(TransposedChannelGraph),
    "scaled graph": lambda: ChannelUnit(ScaledChannelGraph),
    "other edges": OtherEdges,
    "norm behind pooling": NormBehindPooling,
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_near_misses_are_left_with_a_reason(name):
    torch.manual_seed(0)
    model = NEAR_MISSES[name]()
    report = accelerate(model)
    assert "output 0 (training): error" in report.entries[0].reason, str(report)
    assert type(model) in (ChannelUnit, OtherEdges, NormBehindPooling)
