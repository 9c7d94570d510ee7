import csv
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from tiny import RECIPE

from skelssl.engine.build import build_encoder
from skelssl.engine.pretrain import pretrain
from skelssl.engine.recipe import EvaluationOptions
from skelssl.protocols.bootstrap import paired_interval
from skelssl.protocols.classify import linear, nearest_neighbours, standardised
from skelssl.protocols.evaluate import PROTOCOLS, EvaluationError, evaluate, table
from skelssl.protocols.features import calibrate, clip_batches, encode, feature_std
from skelssl.protocols.results import read_results


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    return pretrain(RECIPE, store, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def results(run, store):
    return evaluate(run, store)


def clusters(samples, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(samples) % 3
    centres = 3 * torch.randn(3, 10, generator=torch.Generator().manual_seed(9))
    return centres[labels] + torch.randn(samples, 10, generator=generator), labels


def test_linear_learns_separable_classes():
    train, test = clusters(90), clusters(60, seed=1)
    found = linear(train, test, classes=3, options=EvaluationOptions(), seed=0)
    assert (found.last == test[1]).float().mean() > 0.95
    assert (found.best == test[1]).sum() >= (found.last == test[1]).sum()
    again = linear(train, test, classes=3, options=EvaluationOptions(), seed=0)
    assert torch.equal(found.last, again.last)


def test_standardised_by_the_training_part():
    train, test = standardised((torch.randn(500, 4) * 3 + 2, torch.full((2, 4), 2.0)))
    torch.testing.assert_close(train.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(train.std(0), torch.ones(4), atol=1e-4, rtol=0)
    assert test.abs().max() < 0.3


@pytest.mark.parametrize("k", [1, 5])
def test_nearest_neighbours_agree_with_scikit_learn(k):
    (features, labels), (queries, _) = clusters(90), clusters(60, seed=1)
    peer = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(features.numpy(), labels.numpy())
    found = nearest_neighbours((features, labels), queries, classes=3, k=k)
    assert (found.numpy() == peer.predict(queries.numpy())).mean() > 0.95  # votes may tie when k is 5


def test_of_equally_similar_features_the_first_counts():
    features = torch.tensor([[-1.0, 0.0], [2.0, 0.0], [0.0, 0.0], [1.0, 0.0]]).repeat(50, 1)
    labels = torch.arange(200) % 4 + 4 * (torch.arange(200) > 3)
    found = nearest_neighbours((features, labels), torch.tensor([[5.0, 0.0], [0.0, 0.0]]), classes=8, k=1)
    assert found.tolist() == [1, 0]
    for k in (0, 201):
        with pytest.raises(ValueError, match=f"k: expected 1 to 200, the number of training features, found {k}"):
            nearest_neighbours((features, labels), features, classes=8, k=k)


def test_feature_std_tells_spread_from_collapse():
    generator = torch.Generator().manual_seed(0)
    assert feature_std(torch.randn(4000, 32, generator=generator)) == pytest.approx(1, abs=0.02)
    assert feature_std(torch.randn(1, 32, generator=generator).expand(64, 32)) < 1e-6
    assert feature_std(torch.zeros(64, 32)) == 0


def test_evaluation_draws_nothing_from_the_outside_and_leaves_the_generator(run, store, results, tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert evaluate(run, store, out=tmp_path) == results
    assert torch.equal(torch.get_rng_state(), before)


def test_one_protocol_alone(run, store, tmp_path):
    assert {result.protocol for result in evaluate(run, store, protocols=["knn"], out=tmp_path)} == {"knn"}
    for protocols in (["knn", "fusion"], []):
        with pytest.raises(EvaluationError, match="protocols: expected some of linear, .*knn.*, found"):
            evaluate(run, store, protocols=protocols, out=tmp_path)


def test_results_of_other_protocols_are_kept(run, store, tmp_path):
    knn = evaluate(run, store, protocols=["knn"], out=tmp_path)
    linear_ = evaluate(run, store, protocols=["linear"], out=tmp_path)
    assert read_results(tmp_path) == [*linear_, *knn]
    with np.load(tmp_path / "predictions.npz") as arrays:
        assert {"trained knn 1", "trained linear 0 last"} <= set(arrays)
    with (tmp_path / "classes.csv").open() as file:
        classes = list(csv.reader(file))
    with (tmp_path / "confusion.csv").open() as file:
        counts = [[int(number) for number in row[1:]] for row in list(csv.reader(file))[1:]]
    assert [row[0] for row in classes] == ["class", "a", "b", "c"]
    assert [sum(row) for row in counts] == [8, 8, 8] == [int(row[1]) for row in classes[1:]]
    right = next(r.value for r in linear_ if (r.test, r.encoder, r.epochs) == ("test", "trained", "last"))
    assert sum(counts[label][label] for label in range(3)) == pytest.approx(24 * right / 100)
    (tmp_path / "results.json").write_text("[]")
    with pytest.warns(UserWarning, match=r"are replaced: .*schema: expected 1, found None"):
        assert evaluate(run, store, protocols=["knn"], out=tmp_path) == knn
    assert read_results(tmp_path) == knn


def test_ties_of_votes_go_to_the_more_similar_class():
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = nearest_neighbours((features, torch.tensor([0, 1])), torch.tensor([[0.6, 1.0]]), classes=2, k=2)
    assert found.tolist() == [1]


def test_paired_interval_is_that_of_the_difference():
    generator = np.random.default_rng(0)
    base = generator.random(400) < 0.6
    better = base | (generator.random(400) < 0.3)
    low, high = paired_interval(better, base)
    mean = 100 * (better.mean() - base.mean())
    deviation = 100 * (better.astype(float) - base).std() / 20
    assert low == pytest.approx(mean - 1.96 * deviation, abs=0.5)
    assert high == pytest.approx(mean + 1.96 * deviation, abs=0.5)
    assert paired_interval(base, base) == (0, 0)
    with pytest.raises(ValueError, match=r"equally long rows of samples, found \(400,\) and \(3,\)"):
        paired_interval(base, base[:3])


def test_encoding_does_not_depend_on_the_batch(store):
    encoder = build_encoder(RECIPE, store)
    together = encode(encoder, RECIPE, store, np.arange(20))
    alone = torch.cat([encode(encoder, RECIPE, store, np.array([sample])) for sample in range(20)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_calibration_sets_the_statistics_and_leaves_the_weights(store):
    encoder = build_encoder(RECIPE, store)
    weights = [parameter.clone() for parameter in encoder.parameters()]
    calibrate(encoder, RECIPE, store, store.select("train"))
    assert all(torch.equal(a, b) for a, b in zip(weights, encoder.parameters(), strict=True))
    assert encoder.data_bn.running_mean.abs().max() > 0.05
    assert encoder.data_bn.momentum == 0.1
    again = build_encoder(RECIPE, store)
    again.load_state_dict({**again.state_dict(), **dict(encoder.named_parameters())})
    calibrate(again, RECIPE, store, store.select("train"))  # no dropout: nothing is drawn
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in encoder.state_dict().items())
    encoder.eval()
    with torch.no_grad():
        normalised = encoder._normalised(torch.cat(list(clip_batches(RECIPE, store, store.select("train")))))
    assert normalised.mean().abs() < 0.05
    assert normalised.std().item() == pytest.approx(1, abs=0.1)


def test_every_result_stands_on_all_and_on_the_unseen_samples(results):
    rows = {(r.test, r.protocol, r.k, r.epochs, r.encoder, r.metric): r for r in results}
    assert len(rows) == len(results) == 2 * 2 * 5
    assert {(r.test, r.test_samples) for r in results} == {("test", 24), ("test_unseen", 18)}
    for row in results:
        assert (row.gain is None) == (row.encoder == "untrained")
        assert 0 <= row.interval[0] <= row.value <= row.interval[1] <= 100
    assert {k for _, protocol, k, *_ in rows if protocol == "knn"} == {0, 1, 5}
    assert rows["test", "linear", 0, "last", "untrained", "top-1"].repeats == 2


def test_copies_of_training_sequences_are_always_found_by_knn(run, results):
    with np.load(run / "predictions.npz") as arrays:
        correct = arrays["trained knn 1"]
    assert correct[:6].all()
    unseen = next(r for r in results if r.test == "test_unseen" and r.k == 1 and r.encoder == "trained")
    assert unseen.value == pytest.approx(100 * correct[6:].mean())


def test_results_file_and_table(run, results):
    assert read_results(run) == results
    lines = table(results).splitlines()
    assert re.split("  +", lines[0])[:6] == ["test", "samples", "protocol", "encoder", "metric", "%"]
    assert len(lines) == 1 + len(results)


def test_what_was_evaluated_stays_when_a_later_protocol_fails(run, store, tmp_path, monkeypatch):
    def fails(context):
        raise KeyboardInterrupt

    monkeypatch.setitem(PROTOCOLS, "robustness", fails)
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, store, protocols=["knn", "robustness"], out=tmp_path)
    assert {result.protocol for result in read_results(tmp_path)} == {"knn"}


def test_unfinished_damaged_and_foreign_runs_are_refused(run, store, tmp_path):
    with pytest.raises(EvaluationError, match=r"expected a finished run, found no config.yaml"):
        evaluate(tmp_path, store)
    for name in ("config.yaml", "encoder.safetensors"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    store_of_another = replace(store, header=replace(store.header, dataset="other"))
    with pytest.raises(EvaluationError, match="expected 'tiny', 'raw', found 'other', 'raw'"):
        evaluate(tmp_path, store_of_another)
    (tmp_path / "encoder.safetensors").write_bytes((run / "encoder.safetensors").read_bytes()[:-50])
    with pytest.raises(EvaluationError, match=r"encoder.safetensors: cannot be read"):
        evaluate(tmp_path, store)
