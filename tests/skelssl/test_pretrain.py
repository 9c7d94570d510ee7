import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import RECIPE, make_store

from skelssl.engine import checkpoint
from skelssl.engine.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from skelssl.engine.log import read_log
from skelssl.engine.pretrain import TrainingError, batches, learning_rate, pretrain
from skelssl.engine.recipe import RecipeError, TrainingOptions, changed_keys, load_recipe, names, recipe_from_data

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data") / "store")


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory):
    return pretrain(RECIPE, store, tmp_path_factory.mktemp("runs") / "whole")


def weights(run):
    return load_file(run / "encoder.safetensors")


def assert_same_weights(first, second):
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_run_folder(finished):
    assert {path.name for path in finished.iterdir()} == {
        "checkpoint-000004.json",
        "checkpoint-000004.pt",
        "config.yaml",
        "encoder.safetensors",
        "log.csv",
        "run.json",
        "tensorboard",
    }
    rows = read_log(finished)
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert set(rows[0]) == {"epoch", "loss", "matm", "csm", "learning_rate", "seconds"}
    assert float(rows[0]["learning_rate"]) == 0
    assert json.loads((finished / "run.json").read_text())["threads"] == torch.get_num_threads()


def test_the_same_seed_gives_the_same_weights(store, finished, tmp_path):
    assert_same_weights(pretrain(RECIPE, store, tmp_path / "again"), finished)
    other = replace(RECIPE, training=replace(RECIPE.training, seed=1))
    different = weights(pretrain(other, store, tmp_path / "other"))
    assert any(not torch.equal(tensor, different[name]) for name, tensor in weights(finished).items())


def start(store, out, epochs=4, **environment):
    command = [sys.executable, str(Path(__file__).with_name("tiny.py")), str(store.path), str(out), str(epochs)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, "the child did not get there"
        time.sleep(0.002)


@pytest.mark.parametrize("moment", ["after the first epoch", "in a later epoch", "inside a checkpoint"])
def test_a_killed_run_resumes_to_the_same_weights(store, finished, tmp_path, moment):
    run = tmp_path / "run"
    process = start(store, run)
    conditions = {
        "after the first epoch": lambda: (run / "checkpoint-000001.json").exists(),
        "in a later epoch": lambda: len(read_log(run)) >= 3,
        "inside a checkpoint": lambda: any(run.glob(".checkpoint-00000[23].pt.partial")),
    }
    wait_for(conditions[moment], process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (run / "encoder.safetensors").exists()
    resumed = start(store, run)
    output, _ = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, output
    assert_same_weights(run, finished)
    assert [row["epoch"] for row in read_log(run)] == ["0", "1", "2", "3"]


def test_an_existing_run_is_neither_overwritten_nor_mixed_with_another_recipe(store, finished):
    with pytest.raises(TrainingError, match="expected a new folder, found a run"):
        pretrain(RECIPE, store, finished)
    other = replace(RECIPE, training=replace(RECIPE.training, learning_rate=1.0))
    with pytest.raises(RecipeError, match="another recipe; different: training.learning_rate"):
        pretrain(other, store, finished, resume=True)


def test_resuming_on_other_data_is_refused(store, tmp_path):
    other = make_store(tmp_path / "store")
    run = pretrain(RECIPE, store, tmp_path / "run2")
    other.header.hashes["frames.npy"] = "0"
    with pytest.raises(RecipeError, match="was on other data"):
        pretrain(RECIPE, other, run, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "ntu60"}, "expected dataset 'ntu60', as the recipe says, found 'tiny'"),
        ({"preprocessing": "centred"}, "expected preprocessing 'centred'"),
        ({"training": replace(RECIPE.training, batch_size=25)}, "at most the 24 samples of the split, found 25"),
    ],
)
def test_a_store_that_is_not_the_recipes_is_refused(store, tmp_path, change, message):
    with pytest.raises(RecipeError, match=message):
        pretrain(replace(RECIPE, **change), store, tmp_path / "run")


def test_a_loss_that_is_no_number_stops_with_the_checkpoint_intact(store, tmp_path):
    steep = replace(RECIPE, training=replace(RECIPE.training, learning_rate=1e30))
    with pytest.raises(TrainingError, match="the loss is .* checkpoints are intact"):
        pretrain(steep, store, tmp_path / "run")
    assert load_checkpoint(tmp_path / "run")["epoch"] == 1


def test_a_damaged_checkpoint_is_named(store, tmp_path):
    run = pretrain(RECIPE, store, tmp_path / "run")
    data = run / "checkpoint-000004.pt"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checkpoint-000004.pt: damaged: expected the hash"):
        pretrain(RECIPE, store, run, resume=True)
    data.unlink()
    with pytest.raises(CheckpointError, match=r"checkpoint-000004.json: cannot be read"):
        pretrain(RECIPE, store, run, resume=True)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), RuntimeError("unexpected pos 64 vs 0")]
)
def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path, monkeypatch, error):
    save_checkpoint(tmp_path, 1, {"epoch": 1})

    def full(_, partial):
        partial.write_bytes(b"half")
        raise error

    monkeypatch.setattr(checkpoint.torch, "save", full)
    with pytest.raises(CheckpointError, match=r"checkpoint-000002.pt: the checkpoint could not be written"):
        save_checkpoint(tmp_path, 2, {"epoch": 2})
    assert load_checkpoint(tmp_path) == {"epoch": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-000001.json", "checkpoint-000001.pt"]


def test_learning_rates_are_the_published_ones():
    options = TrainingOptions()
    rates = [learning_rate(options, epoch) for epoch in (0, 5, 10, 80, 149)]
    assert rates == pytest.approx([0, 2.5e-3, 5e-3, 2.5e-3, 6.3e-7], rel=0.01)
    assert learning_rate(replace(options, warmup_from_zero=False), 0) == pytest.approx(5e-4)


def test_batches_cover_the_split_in_another_order_each_epoch():
    options = TrainingOptions(batch_size=4, keep_last_batch=True)
    samples = torch.arange(100, 110)
    first, second = (torch.cat(list(batches(options, samples, epoch))) for epoch in (0, 1))
    assert sorted(first.tolist()) == samples.tolist()
    assert not torch.equal(first, second)
    dropped = list(batches(replace(options, keep_last_batch=False), samples, 0))
    assert [len(batch) for batch in dropped] == [4, 4]


@pytest.mark.parametrize("name", names())
def test_every_recipe_loads_and_survives_its_config_file(name):
    recipe = load_recipe(name)
    assert recipe_from_data(recipe.as_data()) == recipe


def test_flags_win_and_unknown_ones_are_errors():
    name = names()[0]
    assert load_recipe(name, ["--training.epochs=3", "--pstl.stream=bone"]).training.epochs == 3
    for flag in ("--training.epoch=3", "--training.epochs=many", "--method=pstl"):
        with pytest.raises(RecipeError, match=f"{name}.yaml"):
            load_recipe(name, [flag])
    with pytest.raises(RecipeError, match="expected one of .*pstl-nw-ucla.* found 'pstl-imagenet'"):
        load_recipe("pstl-imagenet")


def test_unknown_keys_of_a_file_are_errors(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("dataset: tiny\npreprocessing: raw\ntrainning: {epochs: 3}\n")
    with pytest.raises(RecipeError, match=r"mine.yaml: .*trainning"):
        load_recipe(path)


def test_changed_keys():
    assert changed_keys({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}}) == ["a.c", "d"]


def test_official_switches_every_deviation():
    recipe = replace(RECIPE, official=True)
    assert recipe.method_options.draws_per_batch
    assert recipe.method_options.repeated_joints
    assert recipe.method_options.project_twice
    assert not RECIPE.method_options.draws_per_batch
