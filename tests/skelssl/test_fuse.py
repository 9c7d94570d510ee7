from dataclasses import replace

import pytest
from test_scc import RECIPE

from skelssl.engine.pretrain import pretrain
from skelssl.engine.recipe import RecipeError
from skelssl.protocols.evaluate import EvaluationError, evaluate
from skelssl.protocols.fuse import fuse
from skelssl.protocols.results import read_results


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    training = replace(RECIPE.training, epochs=1)
    return [
        pretrain(
            replace(RECIPE, scc=replace(RECIPE.scc, colouring=colouring, granularity="fine"), training=training),
            store,
            folder / colouring,
        )
        for colouring in ("temporal", "spatial")
    ]


def found(results):
    rows = [r for r in results if r.test == "test" and r.encoder == "trained"]
    return {(r.protocol, r.setting): r.value for r in rows}


def test_a_single_run_is_its_own_fusion(store, runs):
    expected = next(r.value for r in evaluate(runs[0], store) if (r.protocol, r.encoder) == ("linear", "trained"))
    assert found(fuse(runs[:1], store)) == {("linear", "temporal"): pytest.approx(expected)}


def test_all_subsets_of_two_runs(store, runs, tmp_path):
    results = fuse(runs, store, out=tmp_path)
    both, reversed_ = found(results), found(fuse(runs[::-1], store))
    assert set(both) == {
        ("linear", "temporal"),
        ("linear", "spatial"),
        ("fusion of scores", "temporal + spatial"),
        ("fusion of features", "temporal + spatial"),
    }
    for stream in ("temporal", "spatial"):
        assert both["linear", stream] == reversed_["linear", stream]
    assert both["fusion of scores", "temporal + spatial"] == reversed_["fusion of scores", "spatial + temporal"]
    assert read_results(tmp_path) == results
    assert {r.encoder for r in results} == {"trained", "untrained"}


def test_weights_decide(store, runs):
    alone = found(fuse(runs, store, weights=[0.0, 2.0]))
    assert alone["fusion of scores", "temporal + spatial"] == alone["linear", "spatial"]
    with pytest.raises(EvaluationError, match=r"weights: expected 2, none below 0 and not all 0, found \[1.0\]"):
        fuse(runs, store, weights=[1.0])


def test_two_runs_of_one_stream_are_told_apart(store, runs):
    settings = {r.setting for r in fuse([runs[0], runs[0]], store)}
    assert settings == {"temporal (temporal)", "temporal (temporal) + temporal (temporal)"}


def test_options_of_evaluation_count(store, runs):
    rows = fuse(runs[:1], store, flags=["--evaluation.initialisations=3"])
    assert {row.repeats for row in rows if row.encoder == "untrained"} == {3}
    with pytest.raises(RecipeError, match="expected --evaluation.KEY=VALUE, found '--training.epochs=3'"):
        fuse(runs[:1], store, flags=["--training.epochs=3"])


def test_nothing_to_fuse(store, tmp_path):
    with pytest.raises(EvaluationError, match="runs: expected at least one, found none"):
        fuse([], store)
    with pytest.raises(EvaluationError, match=r"expected a finished run, found no config.yaml"):
        fuse([tmp_path], store)
