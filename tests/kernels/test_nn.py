import pytest
import torch
from torch import nn

import skelkern
from skelkern.nn import CrossCorrelationLoss, GraphConv, Linear


class Composed(nn.Module):
    """ST-GCN's unit as the field writes it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 3 * 10, kernel_size=1)

    def forward(self, x, adjacency):
        return torch.einsum("nkctv,kvw->nctw", self.conv(x).unflatten(1, (3, 10)), adjacency)


def test_graph_conv_loads_the_weights_of_the_composed_unit():
    composed, ours = Composed(), GraphConv(6, 10, subsets=3)
    ours.load_state_dict(composed.state_dict())
    x, adjacency = torch.randn(2, 6, 7, 25), torch.randn(3, 25, 25)
    torch.testing.assert_close(ours(x, adjacency), composed(x, adjacency), rtol=1e-4, atol=1e-4)


def test_graph_conv_without_bias():
    unit = GraphConv(6, 10, subsets=2, bias=False)
    assert list(unit.state_dict()) == ["conv.weight"]
    assert unit(torch.randn(2, 6, 7, 5), torch.randn(2, 2, 5, 5)).shape == (2, 10, 7, 5)


def test_same_seed_gives_torchs_initialisation():
    torch.manual_seed(0)
    composed = Composed().state_dict()
    torch.manual_seed(0)
    ours = GraphConv(6, 10, subsets=3).state_dict()
    assert all(torch.equal(composed[name], ours[name]) for name in composed)


def test_cross_correlation_loss():
    z1, z2 = torch.randn(2, 9, 20)
    loss = CrossCorrelationLoss(2e-4)
    assert torch.equal(loss(z1, z2), skelkern.cross_correlation_loss(z1, z2, 2e-4))
    assert str(loss) == "CrossCorrelationLoss(off_diagonal_weight=0.0002, eps=1e-05)"


@pytest.mark.parametrize("activation", [None, "relu"])
def test_linear_is_torchs_layer(activation):
    theirs, ours = nn.Linear(300, 260), Linear(300, 260, activation=activation)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(250, 300)
    expected = theirs(x).relu() if activation else theirs(x)
    torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-4)
