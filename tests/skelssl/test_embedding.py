import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from skelssl.report.embedding import _Descent, joint_similarities, principal_components, tsne


@pytest.fixture(scope="module")
def clusters():
    """(features (90, 20), labels) of 5 groups that are well apart."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 5
    centres = 4 * torch.randn(5, 20, generator=generator)
    return centres[labels] + torch.randn(90, 20, generator=generator), labels


def test_principal_components_agree_with_scikit_learn(clusters):
    features, _ = clusters
    places, shares = principal_components(features, 3)
    peer = PCA(3).fit(features.double().numpy())
    expected = peer.transform(features.double().numpy())
    signs = np.sign((places.numpy() * expected).sum(axis=0))
    np.testing.assert_allclose(places.numpy(), expected * signs, atol=1e-8)
    np.testing.assert_allclose(shares.numpy(), peer.explained_variance_ratio_, rtol=1e-9)
    for turned in (features.flip(0), features + 7):  # neither order nor origin changes signs
        again = principal_components(turned, 3)[0]
        assert torch.allclose(again.sort(dim=0).values, places.sort(dim=0).values, atol=1e-5)


def test_features_without_a_second_direction():
    places, shares = principal_components(torch.arange(6.0)[:, None])
    assert places[:, 1].abs().max() == 0
    assert shares.tolist() == [1, 0]
    assert principal_components(torch.ones(3, 4))[1].tolist() == [0, 0]


def test_similarities_have_the_perplexity_and_sum_to_one(clusters):
    points = clusters[0].double()
    joint = joint_similarities(points, 12.0)
    assert joint.sum().item() == pytest.approx(1)
    assert torch.equal(joint, joint.t()) and joint.diagonal().abs().max() == 0
    # of points on a circle all rows are alike, so that joint and conditional similarities are the same up to 1/S
    angles = torch.arange(40, dtype=torch.float64) * 2 * torch.pi / 40
    rows = 40 * joint_similarities(torch.stack((angles.cos(), angles.sin()), 1), 12.0)
    assert (-torch.special.xlogy(rows, rows).sum(1)).exp().numpy() == pytest.approx(12, rel=1e-6)


def test_the_gradient_is_that_of_the_divergence(clusters):
    similarities = joint_similarities(clusters[0][:20].double(), 5.0).float()
    places = torch.randn(20, 2, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
    kernel = 1 / (1 + (places[:, None] - places).square().sum(-1))
    kernel = kernel * (1 - torch.eye(20))
    divergence = torch.special.xlogy(similarities, similarities / (kernel / kernel.sum()).clamp(min=1e-30)).sum()
    (expected,) = torch.autograd.grad(divergence, places)
    found = _Descent(similarities).gradient(places.detach().float())
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_tsne_keeps_neighbours_and_draws_nothing(clusters):
    features, labels = clusters
    torch.manual_seed(3)
    state = torch.get_rng_state()
    places = tsne(features, perplexity=15)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(tsne(features, perplexity=15), places)
    assert places.mean(dim=0).abs().max() < 1e-3
    assert trustworthiness(features.numpy(), places.numpy(), n_neighbors=10) > 0.93
    distances = torch.cdist(places, places)
    own = labels[:, None] == labels
    # all of a group lie nearer to each other than to anything else
    assert (
        distances.masked_fill(~own, 0).amax(1) < distances.masked_fill(own, torch.inf).amin(1)
    ).float().mean() > 0.95


@pytest.mark.parametrize("features", [torch.zeros(10, 4), torch.eye(4), torch.randn(1, 8).expand(6, 8)])
def test_tsne_of_equal_and_of_few_features_is_finite(features):
    assert torch.isfinite(tsne(features, steps=300)).all()


def test_features_that_cannot_be_placed_are_refused():
    with pytest.raises(ValueError, match=r"expected \(S, F\) of at least 4 samples, found \(3, 2\)"):
        tsne(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="expected finite numbers, found NaN or infinity"):
        principal_components(torch.tensor([[1.0, float("nan")]]))
    with pytest.raises(ValueError, match=r"expected \(S, F\) of at least one sample, found \(0, 2\)"):
        principal_components(torch.zeros(0, 2))
