import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from torch import nn

from skelssl.engine.recipe import EvaluationOptions
from skelssl.engine.schedule import learning_rate, make_optimizer
from skelssl.protocols import exact
from skelssl.protocols.bootstrap import interval
from skelssl.protocols.classify import among_first, average_precision, linear_together, standardised
from skelssl.protocols.exact import ConvergenceError, Samples, choose_penalty, solve, stratified_folds
from skelssl.views.draws import Draws

CLASSES = 4


def clouds(samples, features=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(samples) % CLASSES
    centres = torch.randn(CLASSES, features, generator=torch.Generator().manual_seed(9))
    return centres[labels] + torch.randn(samples, features, generator=generator), labels


def trained_by_autograd(train, options, seed):
    """The textbook loop, one layer alone."""
    torch.manual_seed(seed)
    layer = nn.Linear(train[0].shape[1], CLASSES)
    if options.linear_initialisation == "xavier":
        nn.init.xavier_normal_(layer.weight)
    else:
        nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    optimizer = make_optimizer(options.linear, layer.parameters())
    for epoch in range(options.linear_epochs):
        optimizer.param_groups[0]["lr"] = learning_rate(options.linear, epoch)
        order = Draws(seed, epoch).permutation("linear", "order", len(train[0]))
        for batch in order.split(options.linear_batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(layer(train[0][batch]), train[1][batch]).backward()
            optimizer.step()
    return layer


@pytest.mark.parametrize(
    "options",
    [
        EvaluationOptions(linear_epochs=4, linear_batch_size=16),
        EvaluationOptions(
            linear_epochs=4,
            linear_batch_size=16,
            linear_optimizer="sgd",
            linear_nesterov=True,
            linear_milestones=(2,),
            linear_initialisation="normal",
        ),
    ],
)
def test_layers_that_step_together_learn_what_each_learns_alone(options, monkeypatch):
    trains, tests, seeds = [clouds(40), clouds(40, seed=1)], [clouds(20, seed=2)] * 2, [3, 4]
    together = linear_together(trains, tests, CLASSES, options, seeds)
    for train, seed, found in zip(trains, seeds, together, strict=True):
        layer = trained_by_autograd(train, options, seed)
        torch.testing.assert_close(found.weight, layer.weight.detach().t())
        torch.testing.assert_close(found.bias, layer.bias.detach())
    monkeypatch.setattr("skelssl.protocols.classify.STACKED_TOGETHER", 1)
    for one, other in zip(together, linear_together(trains, tests, CLASSES, options, seeds), strict=True):
        torch.testing.assert_close(one.scores, other.scores)


@pytest.mark.parametrize("features", [6, 60])
def test_exact_classifier_is_scikit_learns(features):
    (x, labels), penalty = clouds(50, features), 0.05
    (x,) = standardised((x,))
    samples = Samples(x, labels, CLASSES)
    found = solve(samples, penalty)
    peer = LogisticRegression(C=1 / (penalty * len(x)), tol=1e-10, max_iter=5000).fit(x.double().numpy(), labels)
    np.testing.assert_allclose(found.scores(x).numpy(), peer.predict_proba(x.double().numpy()), atol=1e-5)
    assert found.gradient <= exact.TOLERANCE
    again = solve(samples, penalty, start=solve(samples, 1.0))
    np.testing.assert_allclose(again.weight.numpy(), found.weight.numpy(), atol=1e-4)


def test_exact_classifier_says_when_it_has_not_arrived(monkeypatch):
    monkeypatch.setattr(exact, "STEPS", 2)
    with pytest.raises(ConvergenceError, match=r"penalty 0.001: expected a gradient of at most 1e-06, found"):
        solve(Samples(*clouds(50), CLASSES), 1e-3)


def test_exact_classifier_of_separable_classes_and_of_repeated_features():
    x, labels = clouds(200, 30)
    x = standardised((torch.cat((x + 9 * nn.functional.one_hot(labels, 30), x), dim=1),))[0]
    found = solve(Samples(x, labels, CLASSES), 1e-6)
    assert found.gradient <= exact.TOLERANCE
    assert (found.scores(x).argmax(dim=1) == labels).all()


def test_features_that_are_not_finite_are_refused():
    x, labels = clouds(20)
    x[3, 2] = torch.nan
    with pytest.raises(ValueError, match="features: expected finite numbers"):
        Samples(x, labels, CLASSES)


def test_folds_hold_every_sample_once_and_every_class_evenly():
    _, labels = clouds(60)
    folds = list(stratified_folds(labels, seed=0))
    assert sorted(torch.cat([held for _, held in folds]).tolist()) == list(range(60))
    for known, held in folds:
        assert torch.bincount(labels[held]).tolist() == [5] * CLASSES
        assert not set(known.tolist()) & set(held.tolist())


def test_the_penalty_is_what_held_out_samples_ask_for():
    (features, _), labels = clouds(60), torch.tensor([0] * 45 + [1, 2, 3] * 5)
    clear = features * 0.1 + 3 * nn.functional.one_hot(labels, features.shape[1])
    folds = list(stratified_folds(labels, seed=0))
    assert choose_penalty((clear, labels), CLASSES, (1e-3, 100.0), folds) == 1e-3, "a large one leaves the majority"
    assert choose_penalty((features, labels), CLASSES, (1e-3, 100.0), folds) == 100.0, "a small one fits noise"
    assert choose_penalty((features, labels), CLASSES, (7.0,), []) == 7.0


def test_average_precision_is_scikit_learns(monkeypatch):
    train, queries = clouds(40), clouds(9, seed=1)
    normal = [nn.functional.normalize(part[0], dim=1).double() for part in (queries, train)]
    expected = [
        average_precision_score((train[1] == label).numpy(), similarity.numpy())
        for label, similarity in zip(queries[1], normal[0] @ normal[1].t(), strict=True)
    ]
    np.testing.assert_allclose(average_precision(train, queries).numpy(), expected, rtol=1e-6)
    monkeypatch.setattr("skelssl.protocols.classify.RANKED_TOGETHER", 1)
    np.testing.assert_allclose(average_precision(train, queries).numpy(), expected, rtol=1e-6)
    alone = average_precision(train, (queries[0][:1], torch.tensor([CLASSES])))
    assert alone.tolist() == [0], "a class without training features"


def test_top_classes():
    scores = torch.tensor([[0.1, 0.2, 0.3], [0.5, 0.4, 0.3]])
    assert among_first(scores, torch.tensor([1, 2]), 2).tolist() == [True, False]
    assert among_first(scores, torch.tensor([0, 2]), 5).tolist() == [True, True]


def test_interval_is_that_of_the_mean():
    values = np.random.default_rng(0).random(300)
    low, high = interval(values)
    deviation = 100 * values.std() / 300**0.5
    assert low == pytest.approx(100 * values.mean() - 1.96 * deviation, abs=0.2)
    assert high == pytest.approx(100 * values.mean() + 1.96 * deviation, abs=0.2)
    with pytest.raises(ValueError, match=r"expected a row of samples, found \(0,\)"):
        interval(values[:0])
