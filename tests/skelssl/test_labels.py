"""Protocols that train with few labels, the whole network, or on another data set."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import RECIPE, make_store, write_run

from skelssl import skeletons
from skelssl.data.store import Header
from skelssl.data.writer import write_store
from skelssl.engine.recipe import SolverOptions
from skelssl.protocols import finetune, semi
from skelssl.protocols.batch import evaluate_runs
from skelssl.protocols.context import EvaluationError, open_context
from skelssl.protocols.evaluate import evaluate
from skelssl.protocols.results import read_results
from skelssl.protocols.transfer import as_layout, transferred

SMALL = replace(
    RECIPE,
    encoder=replace(RECIPE.encoder, dropout=0.0),
    evaluation=replace(
        RECIPE.evaluation,
        initialisations=2,
        linear_epochs=3,
        fractions=(0.1, 0.5),
        subsets=2,
        finetune=SolverOptions(epochs=2, batch_size=23),
    ),
)


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "run", SMALL, store)


@pytest.fixture(scope="module")
def other(store, tmp_path_factory):
    """The same motions with the joints of NTU, two persons, and other splits."""
    joints = skeletons.get("ntu25").joints
    order = [store_joint(name) for name in joints]
    sequences = [
        np.concatenate((frames[:, :, order], np.zeros_like(frames[:, :, order])), axis=1)
        for frames in map(store.sample, range(len(store)))
    ]
    header = Header("other", "ntu25", "raw", "metres", store.header.class_names, store.header.names)
    splits = {"xsub_train": store.select("train"), "xsub_test": store.select("test")}
    folder = tmp_path_factory.mktemp("data") / "other"
    return write_store(folder, header, sequences, {"labels": store.labels}, splits)


def store_joint(name):
    """Of NW-UCLA's layout, for one of NTU's."""
    names = skeletons.get("nw_ucla20").joints
    alike = {"spine_base": "hip_centre", "spine_middle": "spine", "spine_shoulder": "shoulder_centre"}
    return names.index(alike.get(name, name)) if alike.get(name, name) in names else 0


def test_few_labels_on_frozen_features(store, run):
    rows = [r for r in semi.run(open_context(run, store)) if r.test == "test"]
    assert [(r.level, r.encoder, r.repeats) for r in rows] == [
        *((10.0, "untrained", 4), (10.0, "trained", 2)),
        *((50.0, "untrained", 4), (50.0, "trained", 2)),
    ]
    assert all(r.deviation is not None for r in rows)


def test_the_subsets_are_balanced_and_differ_by_seed(store, run):
    context = open_context(run, store)
    first, second = semi.labelled_subsets(context, 0.5)
    assert np.bincount(store.labels[first]).tolist() == [4, 4, 4]
    assert set(first) <= set(context.samples[0].tolist())
    assert set(first) != set(second)


def test_frozen_classifiers_see_no_label_outside_their_subset(store, run):
    context = open_context(run, store)
    before = semi._frozen(context, semi.labelled_subsets(context, 0.5)[:1])
    chosen = semi.labelled_subsets(context, 0.5)[0]
    labels = context.labels[0].clone()
    labels[~torch.from_numpy(np.isin(context.samples[0], chosen))] = 0
    context.labels = labels, context.labels[1]
    after = semi._frozen(context, [chosen])
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_finetuning_learns_and_is_repeatable(store, run):
    longer = replace(SMALL.evaluation, finetune=SolverOptions(epochs=20, batch_size=6, learning_rate=0.003))
    context = open_context(run, store, recipe=replace(SMALL, evaluation=longer))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = finetune.finetuned(context, "untrained", context.samples[0], seed=0)
    assert first.mean() > 0.6, "three classes"
    assert torch.equal(torch.get_rng_state(), before)
    short = open_context(run, store)  # 24 samples in batches of 23: the last one is left out
    found = [finetune.finetuned(short, "untrained", short.samples[0], seed=1) for _ in range(2)]
    assert np.array_equal(*found)


def test_both_finetuned_protocols_in_one_file(store, run, tmp_path):
    results = evaluate(run, store, protocols=["semi-finetune", "finetune"], out=tmp_path)
    assert read_results(tmp_path) == results
    assert {r.protocol for r in results} == {"semi-finetune", "finetune"}
    assert {r.repeats for r in results if r.protocol == "semi-finetune"} == {2}


def test_transfer_to_the_same_motions_in_another_layout(store, run, other):
    target = as_layout(other, store)
    assert target.frames.shape == store.frames.shape
    exact = [name in skeletons.get("ntu25").joints for name in skeletons.get("nw_ucla20").joints]
    np.testing.assert_array_equal(target.frames[:, :, exact], store.frames[:, :, exact])
    back = as_layout(store, other)
    assert back.frames.shape == other.frames.shape
    assert not back.frames[:, 1].any(), "the second person is absent"
    context = transferred(open_context(run, store), other, "xsub_train", "xsub_test")
    assert context.pretrained_on == "tiny train"
    assert context.store.header.dataset == "other"


def test_transfer_results(store, run, other, tmp_path):
    with pytest.raises(EvaluationError, match="target: expected a store to transfer to, found none"):
        evaluate(run, store, protocols=["transfer"], out=tmp_path)
    chosen = {"protocols": ["transfer"], "target": other, "target_splits": ("xsub_train", "xsub_test")}
    results = evaluate(run, store, out=tmp_path, **chosen)
    assert {r.protocol for r in results} == {"transfer linear", "transfer knn"}
    assert {(r.dataset, r.pretrained_on, r.test) for r in results} == {("other", "tiny train", "xsub_test")}
    assert results[0].note.startswith("ntu25 as nw_ucla20: missing ")
    with pytest.raises(EvaluationError, match="expected preprocessing 'raw', as the run's data have, found 'agcn'"):
        strange = replace(other, header=replace(other.header, preprocessing="agcn"))
        transferred(open_context(run, store), strange)


def test_several_runs_each_on_its_own_data(store, run, tmp_path):
    moved = make_store(tmp_path / "again")
    second = write_run(tmp_path / "second", SMALL, moved)
    flags = ["--evaluation.neighbours=[3]"]
    texts = list(evaluate_runs([run, second], ["knn"], flags, out=tmp_path / "out"))
    assert [text.split()[0] for text in texts] == [str(run), str(second)]
    for name in ("run", "second"):
        assert {r.k for r in read_results(tmp_path / "out" / name)} == {0, 3}
    with pytest.raises(EvaluationError, match="runs: expected folders of different names, found 'run' twice"):
        list(evaluate_runs([run, run], ["knn"], out=tmp_path))
    with pytest.raises(EvaluationError, match="device: expected one of this machine, found 'abacus'"):
        list(evaluate_runs([run], ["knn"], device="abacus"))
    (second / "run.json").unlink()
    with pytest.raises(EvaluationError, match=r"second: expected a run that names its data, or --data"):
        list(evaluate_runs([second], ["knn"]))
