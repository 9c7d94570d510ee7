"""The auto-encoder of clouds against the same networks written edge by edge and point by point."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from skelkern.nn import Chamfer
from skelssl.decoders.foldingnet import FoldingNet
from skelssl.encoders.dgcnn import DGCNN, pooled_layer


def plain_dgcnn(model, points):
    """Edges as an array, the layers' modules applied one after the other."""
    layers, x = [], points
    for layer in (model.conv1, model.conv2, model.conv3, model.conv4):
        neighbors = torch.cdist(x, x).topk(layer.k, largest=False).indices
        others = x[torch.arange(len(x))[:, None, None], neighbors]
        own = x[:, :, None].expand_as(others)
        edges = torch.cat([others - own, own], dim=3).permute(0, 3, 1, 2)
        x = nn.Sequential.forward(layer, edges).amax(dim=3).transpose(1, 2)
        layers.append(x)
    return model.conv5(torch.cat(layers, dim=2).transpose(1, 2)).amax(dim=2)


def plain_foldingnet(model, code):
    columns = code[:, :, None].expand(-1, -1, len(model.grid))
    grid = model.grid.T.expand(len(code), -1, -1)
    surface = nn.Sequential.forward(model.folding1, torch.cat([columns, grid], dim=1))
    return nn.Sequential.forward(model.folding2, torch.cat([columns, surface], dim=1)).transpose(1, 2)


@pytest.mark.parametrize("training", [True, False])
def test_dgcnn_is_its_layers(training):
    torch.manual_seed(0)
    model = DGCNN(feature_dim=32, k=5).double().train(training)
    points = torch.randn(3, 40, 3, dtype=torch.float64)
    running = {name: value.clone() for name, value in model.named_buffers()}
    found = model(points)
    after = {name: value.clone() for name, value in model.named_buffers()}
    model.load_state_dict(running, strict=False)
    assert torch.allclose(found, plain_dgcnn(model, points))
    for name, value in model.named_buffers():
        assert torch.allclose(value, after[name]), name


def test_dgcnn_has_the_keys_of_the_public_code():
    keys = DGCNN(feature_dim=32).state_dict()
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {f"conv{n}.0.weight" for n in range(1, 6)}
    expected |= {f"{name}.{key}" for n in range(1, 6) for name in (f"bn{n}", f"conv{n}.1") for key in norm}
    assert set(keys) == expected
    shapes = [tuple(keys[f"conv{n}.0.weight"].shape) for n in range(1, 6)]
    assert shapes == [(64, 6, 1, 1), (64, 128, 1, 1), (128, 128, 1, 1), (256, 256, 1, 1), (32, 512, 1)]


def test_masked_points_do_not_show_in_a_feature():
    torch.manual_seed(0)
    model = DGCNN(feature_dim=32, k=5)
    points, mask = torch.randn(2, 40, 3), torch.ones(2, 40, dtype=torch.bool)
    mask[:, 30:] = False
    points[~mask] = torch.nan
    expected = model(points[:, :30])
    assert torch.allclose(model(points, mask), expected, atol=1e-5)


def pooled_both_ways(training, masked, points):
    """Results and gradients of `pooled_layer` and of its three modules applied one after the other."""
    torch.manual_seed(1)
    layers = nn.Sequential(nn.Conv1d(5, 7, 1, bias=False), nn.BatchNorm1d(7), nn.LeakyReLU(0.2)).double()
    layers.train(training)
    norm = layers[1]
    nn.init.normal_(norm.bias)
    nn.init.normal_(norm.running_mean)
    norm.weight.data = torch.linspace(-1, 2.5, 7, dtype=torch.float64)  # some channels fall
    mask = torch.rand(3, points) < 0.6 if masked else torch.ones(3, points, dtype=torch.bool)
    x = torch.where(mask[:, :, None], torch.randn(3, points, 5, dtype=torch.float64) + 3, 0).requires_grad_()
    outcomes = []
    for plain in (False, True):
        state = {name: tensor.clone() for name, tensor in layers.state_dict().items()}
        if plain:
            mapped = layers(x[mask][:, :, None])[:, :, 0].split(mask.sum(dim=1).tolist())
            y = torch.stack([cloud.amax(dim=0) for cloud in mapped])
        else:
            y = pooled_layer(layers, x, mask if masked else None)
        gradients = torch.autograd.grad((y * torch.arange(7)).sin().sum(), [x, *layers.parameters()])
        outcomes.append((y, *gradients, norm.running_mean.clone(), norm.running_var.clone(), norm.num_batches_tracked))
        layers.load_state_dict(state)
    return outcomes


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("masked", "points"), [(False, 1), (False, 64), (True, 31), (True, 70)])
def test_the_pooled_layer_is_its_modules(training, masked, points):
    for ours, plain in zip(*pooled_both_ways(training, masked, points), strict=True):
        assert torch.allclose(ours, plain, atol=1e-9)


def test_without_gradients_the_pooled_layer_is_the_same():
    layers = nn.Sequential(nn.Conv1d(5, 7, 1, bias=False), nn.BatchNorm1d(7), nn.LeakyReLU(0.2)).eval()
    x = torch.randn(2, 40, 5)
    with torch.no_grad():
        found = pooled_layer(layers, x)
    assert torch.allclose(found, pooled_layer(layers, x), atol=1e-6)


def test_foldingnet_is_its_layers():
    torch.manual_seed(0)
    model = FoldingNet(feature_dim=16, out_channels=6, grid=(5, 7))
    code = torch.randn(3, 16)
    found = model(code)
    assert found.shape == (3, 35, 6)
    assert torch.allclose(found, plain_foldingnet(model, code), atol=1e-6)


def test_foldingnet_has_the_keys_of_the_public_code():
    keys = FoldingNet(feature_dim=16).state_dict()
    assert set(keys) == {f"folding{f}.{n}.{key}" for f in (1, 2) for n in (0, 2, 4) for key in ("weight", "bias")}
    assert keys["folding1.0.weight"].shape == (16, 18, 1)
    assert keys["folding2.4.weight"].shape == (3, 16, 1)


def test_grid_runs_along_its_last_axis_first():
    grid = FoldingNet(feature_dim=4, grid=(2, 3)).grid
    expected = torch.tensor([[-0.3, -0.3], [-0.3, 0], [-0.3, 0.3], [0.3, -0.3], [0.3, 0], [0.3, 0.3]])
    assert torch.allclose(grid, expected)


def test_the_auto_encoder_learns():
    torch.manual_seed(0)
    encoder, decoder = DGCNN(feature_dim=64, k=8), FoldingNet(feature_dim=64, out_channels=6, grid=(8, 8))
    points = functional.normalize(torch.randn(4, 60, 3), dim=2)
    target = torch.cat([points, points.abs()], dim=2)
    loss = Chamfer("sum_of_means", weights=[1, 1, 1, 1, 1, 1])
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=3e-3)
    losses = []
    for _ in range(140):
        optimizer.zero_grad()
        value = loss(decoder(encoder(points)), target)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < 0.35 * losses[0], "a single point in the middle comes to 0.44"
