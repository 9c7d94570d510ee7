from dataclasses import replace

import pytest
from test_scc import RECIPE

from skelssl.engine.pretrain import pretrain
from skelssl.protocols.evaluate import EvaluationError, evaluate
from skelssl.protocols.fuse import fuse


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


def test_a_single_run_is_its_own_fusion(store, runs):
    expected = next(r.accuracy for r in evaluate(runs[0], store) if (r.protocol, r.encoder) == ("linear", "trained"))
    found = fuse(runs[:1], store)
    assert found.single == (pytest.approx(expected),)
    assert (found.score_sum, found.concatenated) == (pytest.approx(expected), pytest.approx(expected))


def test_two_runs(store, runs):
    found = fuse(runs, store)
    assert found.single == (*fuse(runs[:1], store).single, *fuse(runs[1:], store).single)
    assert fuse(runs[::-1], store).score_sum == found.score_sum
    assert all(0 <= accuracy <= 100 for accuracy in (found.score_sum, found.concatenated))


def test_nothing_to_fuse(store, tmp_path):
    with pytest.raises(EvaluationError, match="runs: expected at least one, found none"):
        fuse([], store)
    with pytest.raises(EvaluationError, match=r"expected a finished run, found no config.yaml"):
        fuse([tmp_path], store)
