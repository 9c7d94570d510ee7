import errno
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny import RECIPE, make_store

from skelssl.engine import checkpoint
from skelssl.engine.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from skelssl.engine.log import read_log
from skelssl.engine.pretrain import TrainingError, _check_batches, batches, pretrain
from skelssl.engine.recipe import (
    RecipeError,
    TrainingOptions,
    changed_keys,
    load_recipe,
    names,
    recipe_from_data,
    variants,
)
from skelssl.engine.schedule import learning_rate, make_optimizer
from skelssl.protocols import health

ROOT = Path(__file__).parents[2]


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
        "checkpoint-000003.json",
        "checkpoint-000003.pt",
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
    assert set(rows[0]) == {
        *("epoch", "loss", "matm", "csm", "learning_rate"),
        *("feature_std", "effective_rank", "knn_probe", "seconds"),
    }
    assert [row["knn_probe"] == "" for row in rows] == [True, True, True, False], "after the last epoch"
    assert float(rows[0]["learning_rate"]) == 0
    record = json.loads((finished / "run.json").read_text())
    assert (record["threads"], record["processes"], record["seed"]) == (torch.get_num_threads(), 1, 0)


def test_the_same_seed_gives_the_same_weights(store, finished, tmp_path):
    assert_same_weights(pretrain(RECIPE, store, tmp_path / "again"), finished)
    other = replace(RECIPE, training=replace(RECIPE.training, seed=1))
    different = weights(pretrain(other, store, tmp_path / "other"))
    assert any(not torch.equal(tensor, different[name]) for name, tensor in weights(finished).items())


def start(store, out, epochs=4, *stop):
    command = [sys.executable, str(Path(__file__).with_name("tiny.py")), str(store.path), str(out), str(epochs), *stop]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, "the child did not get there"
        time.sleep(0.002)


@pytest.mark.timeout(200)
def test_a_run_that_is_killed_again_and_again_ends_in_the_same_weights(store, tmp_path):
    """Three kills, two at random moments, one when a checkpoint is written but not yet in its place."""
    epochs, run = 12, tmp_path / "run"
    whole = pretrain(replace(RECIPE, training=replace(RECIPE.training, epochs=epochs)), store, tmp_path / "whole")
    for epoch in (1, random.randint(3, 5)):
        process = start(store, run, epochs)
        wait_for(lambda number=epoch: len(read_log(run)) >= number, process)
        time.sleep(random.uniform(0, 0.2))
        process.kill()
        process.wait()
    process = start(store, run, epochs, "9")
    wait_for((run / ".checkpoint-000009.pt.partial").exists, process)
    process.kill()
    process.wait()
    assert load_checkpoint(run)["epoch"] == 8
    resumed = start(store, run, epochs)
    output, _ = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, output
    assert_same_weights(run, whole)
    for rows in zip(read_log(run), read_log(whole), strict=True):
        assert rows[0].keys() == rows[1].keys()
        assert all(rows[0][name] == rows[1][name] for name in rows[0] if name != "seconds")
    assert not list(run.glob(".*.partial"))


@pytest.mark.timeout(200)
def test_two_processes_train_one_encoder(store, tmp_path):
    """Under torchrun; one process goes on with their run."""
    run, recipe = tmp_path / "run", tmp_path / "recipe.yaml"
    uneven = replace(RECIPE, training=replace(RECIPE.training, epochs=2, batch_size=9, keep_last_batch=True))
    recipe.write_text(yaml.safe_dump(uneven.as_data()))
    torchrun = "-m torch.distributed.run --nproc-per-node 2 -m"
    command = f"{torchrun} skelssl pretrain {recipe} --data {store.path} --out {run} --accelerator cpu"
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = subprocess.run([sys.executable, *command.split()], cwd=ROOT, env=variables, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert json.loads((run / "run.json").read_text())["processes"] == 2
    of_two, rows = weights(run), read_log(run)
    assert [row["epoch"] for row in rows] == ["0", "1"]
    (run / "checkpoint-000002.json").unlink()
    with pytest.warns(UserWarning, match="resumed with another processes.*: its dropout and the last bits"):
        pretrain(uneven, store, run, resume=True)
    assert read_log(run)[0] == rows[0]
    assert read_log(run)[1] != rows[1]
    for name, tensor in weights(run).items():
        assert torch.isfinite(tensor).all() and torch.isfinite(of_two[name]).all()


def test_every_process_needs_a_sample_of_a_batch():
    options = replace(RECIPE.training, batch_size=3)
    for changed, samples in ((replace(options, batch_size=2), 9), (replace(options, keep_last_batch=True), 2)):
        with pytest.raises(RecipeError, match="one for each process of 3, found 2"):
            _check_batches(changed, samples, processes=3)
    _check_batches(options, 9, processes=3)


def test_a_last_batch_that_leaves_a_process_without_a_sample_is_dropped():
    options = TrainingOptions(batch_size=4, keep_last_batch=True)
    sizes = [[len(batch) for batch in batches(options, torch.arange(10), 0, processes)] for processes in (1, 2, 3)]
    assert sizes == [[4, 4, 2], [4, 4, 2], [4, 4]]


def test_a_run_from_before_a_key_was_added_can_be_resumed(store, tmp_path):
    run = pretrain(RECIPE, store, tmp_path / "run")
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["evaluation"]["standardise"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    before = weights(run)
    after = weights(pretrain(RECIPE, store, run, resume=True))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_other_surroundings_are_told(store, tmp_path):
    run = pretrain(RECIPE, store, tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "threads": 99}))
    with pytest.warns(UserWarning, match="resumed with another threads: the last bits"):
        pretrain(RECIPE, store, run, resume=True)
    (run / "run.json").write_text("{")
    with pytest.raises(TrainingError, match="expected a run to resume, found damaged files"):
        pretrain(RECIPE, store, run, resume=True)


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


def test_collapsed_features_stop_the_training(store, tmp_path, monkeypatch):
    monkeypatch.setattr(health, "encode", lambda *_: torch.randn(1, 16).expand(64, 16))
    with (
        pytest.warns(UserWarning, match="are collapsing in epoch 0"),
        pytest.raises(TrainingError, match="the features have collapsed in epoch 0"),
    ):
        pretrain(RECIPE, store, tmp_path / "run")


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(store, finished, tmp_path):
    run = pretrain(RECIPE, store, tmp_path / "run")
    (run / "encoder.safetensors").unlink()
    damage(run / "checkpoint-000004.pt")
    with pytest.warns(UserWarning, match=r"000004.pt: damaged: expected the hash .*going on from checkpoint-000003"):
        pretrain(RECIPE, store, run, resume=True)
    assert_same_weights(run, finished)


def test_when_all_checkpoints_are_damaged_it_is_an_error(tmp_path):
    for epoch in (1, 2, 3):
        save_checkpoint(tmp_path, epoch, {"epoch": epoch})
    assert sorted(path.stem for path in tmp_path.glob("*.pt")) == ["checkpoint-000002", "checkpoint-000003"]
    damage(tmp_path / "checkpoint-000003.pt")
    (tmp_path / "checkpoint-000002.pt").unlink()
    with pytest.raises(CheckpointError, match=r"000003.pt: damaged.*; .*000002.json: cannot be read"):
        load_checkpoint(tmp_path)


FULL_DISK = """
import resource, signal, sys, torch
from pathlib import Path
from skelssl.engine.checkpoint import CheckpointError, save_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_checkpoint(Path(sys.argv[1]), 2, {"epoch": 2, "weights": torch.zeros(100_000)})
except CheckpointError as error:
    print(error)
"""


def test_a_disk_that_refuses_in_the_middle_leaves_the_previous_checkpoint(tmp_path):
    """A real refusal by the operating system, which limits the size of files as a full disk would."""
    save_checkpoint(tmp_path, 1, {"epoch": 1})
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "checkpoint-000002.pt: the checkpoint could not be written" in found.stdout
    assert load_checkpoint(tmp_path) == {"epoch": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-000001.json", "checkpoint-000001.pt"]


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
    steps = TrainingOptions(warmup_epochs=0, learning_rate=0.01, epochs=451, milestones=(351, 400))
    rates = [learning_rate(steps, epoch) for epoch in (0, 350, 351, 399, 400, 450)]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4])
    falling = TrainingOptions(warmup_epochs=0, learning_rate=1e-5, final_learning_rate=1e-7, epochs=150)
    assert [learning_rate(falling, epoch) for epoch in (0, 75, 150)] == pytest.approx([1e-5, 5.05e-6, 1e-7])


def test_optimizers():
    layer, options = torch.nn.Linear(2, 2), TrainingOptions(optimizer="sgd", momentum=0.8, weight_decay=0.1)
    layer.bias.requires_grad_(False)
    [group] = make_optimizer(options, layer.parameters()).param_groups
    assert (group["momentum"], group["weight_decay"], len(group["params"])) == (0.8, 0.1, 1)
    assert isinstance(make_optimizer(TrainingOptions(), layer.parameters()), torch.optim.Adam)


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


@pytest.mark.parametrize(
    ("name", "stands_for"),
    [
        ("pstl-ntu60-xsub-bone", ["--pstl.stream=bone"]),
        ("hico-pku-mmd-1-xsub-lstm-motion", ["--hico.encoder=lstm", "--hico.stream=motion"]),
        ("isc-ntu60-xview-graph-image", ["--isc.forms=[graph,image]"]),
        ("isc-ntu60-xview-image", ["--isc.forms=[image]"]),
        ("scc-uwa3d-v12-spatial-both-masked", ["--scc.granularity=both", "--scc.masked_ratio=0.4"]),
    ],
)
def test_a_variant_is_its_recipe_with_flags(name, stands_for):
    [base] = [base for base in names() if name.startswith(f"{base}-")]
    assert variants(base)[name.removeprefix(f"{base}-")] == tuple(stands_for)
    recipe = load_recipe(name)
    assert recipe == load_recipe(base, stands_for) != load_recipe(base)


def test_flags_win_over_variants_and_unknown_ones_are_errors():
    assert load_recipe("pstl-nw-ucla-bone", ["--pstl.stream=motion"]).pstl.stream == "motion"
    for name in ("pstl-nw-ucla-gru", "pstl-nw-ucla-", "hico-ntu60-xsub-bone-gru", "scc-ntu60-xsub-person-coarse"):
        with pytest.raises(RecipeError, match=f"expected one of .*skelssl recipes.* found '{name}'"):
            load_recipe(name)


def test_flags_win_and_unknown_ones_are_errors():
    name = "pstl-nw-ucla"
    assert load_recipe(name, ["--training.epochs=3", "--pstl.stream=bone"]).training.epochs == 3
    for flag in ("--training.epoch=3", "--training.epochs=many", "--method=moco"):
        with pytest.raises(RecipeError, match=f"{name}.yaml"):
            load_recipe(name, [flag])
    with pytest.raises(RecipeError, match="expected one of .*pstl-nw-ucla.* found 'pstl-imagenet'"):
        load_recipe("pstl-imagenet")


def test_unknown_keys_of_a_file_are_errors(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("dataset: tiny\npreprocessing: raw\ntrainning: {epochs: 3}\n")
    with pytest.raises(RecipeError, match=r"mine.yaml: unknown key 'trainning'; the nearest known one is 'training'"):
        load_recipe(path)
    for content in ("- a\n", "a: ["):
        path.write_text(content)
        with pytest.raises(RecipeError, match=r"mine.yaml: expected (keys and values|YAML)"):
            load_recipe(path)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--training.epoch=3", "unknown key 'training.epoch'; the nearest known one is 'training.epochs'"),
        ("--learning_rate=1", "unknown key 'learning_rate'; the nearest known one is 'training.learning_rate'"),
        ("--training.epochs=0", "training.epochs: expected at least 1, found 0"),
        ("--training.learning_rate=.nan", "training.learning_rate: expected at least 0, found nan"),
    ],
)
def test_wrong_flags_name_what_is_known(flag, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("pstl-nw-ucla", [flag])


def test_changed_keys():
    assert changed_keys({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}}) == ["a.c", "d"]


def test_official_switches_every_deviation():
    recipe = replace(RECIPE, official=True)
    assert recipe.method_options.draws_per_batch
    assert recipe.method_options.repeated_joints
    assert recipe.method_options.project_twice
    assert not RECIPE.method_options.draws_per_batch
