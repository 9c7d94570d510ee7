import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import skelkern
from skelkern.nn import GRU, LSTM, CrossCorrelationLoss, GraphConv, Linear


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


RECURRENT = pytest.mark.parametrize(("ours", "theirs"), [(GRU, nn.GRU), (LSTM, nn.LSTM)], ids=["gru", "lstm"])


def same(found, expected):
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1])


@RECURRENT
@pytest.mark.parametrize("batch_first", [False, True])
def test_recurrent_layers_are_torchs(ours, theirs, batch_first):
    options = {"num_layers": 2, "bidirectional": True, "batch_first": batch_first}
    torch.manual_seed(0)
    expected = theirs(12, 20, **options)
    torch.manual_seed(0)
    found = ours(12, 20, **options)
    assert list(found.state_dict()) == list(expected.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), expected.parameters(), strict=True))
    x = torch.randn(7, 9, 12)
    _, state = expected(x)
    with skelkern.use("cpu"):
        for module in (found, copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
            same(module(x), expected(x))
            same(module(x, state), expected(x, state))
            module(x)[0].sum().backward()
            assert all(parameter.grad is not None for parameter in module.parameters())


@RECURRENT
def test_recurrent_layers_of_packed_sequences(ours, theirs):
    found = ours(5, 6, bidirectional=True)
    expected = theirs(5, 6, bidirectional=True)
    expected.load_state_dict(found.state_dict())
    packed = pack_padded_sequence(torch.randn(4, 3, 5), torch.tensor([2, 4, 1]), enforce_sorted=False)
    with skelkern.use("cpu"):
        y, last = found(packed)
    other, expected_last = expected(packed)
    same((y.data, last), (other.data, expected_last))


@RECURRENT
def test_recurrent_layers_drop_out_in_training_only(ours, theirs):
    module, x = ours(5, 60, 2, dropout=0.5), torch.randn(4, 3, 5)
    with skelkern.use("cpu"):
        assert not torch.equal(module(x)[0], module(x)[0])
        assert torch.equal(module.eval()(x)[0], module(x)[0])


@RECURRENT
def test_recurrent_layers_leave_the_rest_to_torch(ours, theirs):
    x = torch.randn(4, 3, 5)
    for options, value in (
        ({"dtype": torch.float64}, x.double()),
        ({}, x[0]),
        *([({"proj_size": 2}, x)] if theirs is nn.LSTM else []),
    ):
        expected, found = theirs(5, 6, **options), ours(5, 6, **options)
        found.load_state_dict(expected.state_dict())
        assert torch.equal(found(value)[0], expected(value)[0])
    with skelkern.use("reference"):
        expected, found = theirs(5, 6), ours(5, 6)
        found.load_state_dict(expected.state_dict())
        assert torch.equal(found(x)[0], expected(x)[0])
