"""Steps in bfloat16, and whole steps on buffers that stay where they are, as a CUDA graph records them."""

import json
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from test_contrast import HICO, ISC_OPTIONS, make_hico
from test_pstl import NoWaiting
from test_pstl import make_batch as make_pairs
from test_scc import make_batch as make_singles
from test_scc import make_method as make_scc
from tiny import RECIPE

from skelkern.ops import chamfer
from skelkern.ops.sample_clips import times
from skelssl import skeletons
from skelssl.encoders.stgcn import STGCN
from skelssl.encoders.zoo import create
from skelssl.engine import pretrain as pretrain_module
from skelssl.engine.pretrain import pretrain
from skelssl.engine.recipe import RecipeError, TrainingOptions
from skelssl.engine.schedule import make_optimizer, set_rate
from skelssl.engine.step import WARM_UP, RecordedStep, StaticStep, autocast, capturable, recorded_step
from skelssl.methods.isc import ISC
from skelssl.methods.pstl import PSTL, PSTLOptions
from skelssl.views.draws import Draws

NTU = skeletons.get("ntu25")
PSTL_OPTIONS = PSTLOptions(frames=12, masked_frames=2, projector=16)


def make_pstl(options=PSTL_OPTIONS):
    torch.manual_seed(0)
    return PSTL(STGCN(NTU, hidden_channels=4, feature_dim=8, dropout=0.5), NTU, options)


def make_isc():
    torch.manual_seed(0)
    encoders = create("bigru", NTU, hidden_size=6), create("agcn", NTU, hidden_channels=4)
    return ISC(encoders, NTU, ISC_OPTIONS)


METHODS = {
    "pstl": make_pstl,
    "hico": lambda: make_hico(replace(HICO, encoder="transformer"), "transformer"),
    "isc": make_isc,
    "scc": lambda: make_scc(masked_ratio=0.4),
}
RATES = (1e-3, 2e-3, 3e-4, 1e-3, 5e-4)


def batch_for(name):
    return make_singles() if name == "scc" else make_pairs(4)


def options_for(name):
    return TrainingOptions(optimizer="adam" if name in ("pstl", "scc") else "sgd")


@pytest.mark.parametrize("name", METHODS)
def test_losses_in_bfloat16(name):
    batch, values, gradients = batch_for(name), [], []
    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(3)
        method = METHODS[name]().train()
        expected = method.views(batch, Draws(0, 0), 0)
        with autocast(TrainingOptions(precision=precision), torch.device("cpu")):
            values.append(method.training_step(batch, Draws(0, 0), 0))
            seen = {}
            method.losses = lambda *views, seen=seen: seen.update(views=views)
            method.training_step(batch, Draws(0, 0), 0)
        assert all(map(torch.equal, expected, seen["views"])), "views are made in full precision"
        values[-1]["loss"].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None]))
    exact, rounded = values
    assert all(value.dtype == torch.float32 for value in rounded.values())
    assert rounded["loss"].item() == pytest.approx(exact["loss"].item(), rel=0.1)
    assert not torch.equal(rounded["loss"], exact["loss"]) and gradients[1].isfinite().all()


def test_a_run_in_bfloat16_says_so_and_resumes(store, tmp_path, monkeypatch):
    recipe = replace(RECIPE, training=replace(RECIPE.training, epochs=2, precision="bf16-mixed"))
    whole = pretrain(recipe, store, tmp_path / "whole")
    assert json.loads((whole / "run.json").read_text())["precision"] == "bf16-mixed"
    rate = pretrain_module.learning_rate

    def interrupted(options, epoch):
        if epoch == 1:
            raise KeyboardInterrupt
        return rate(options, epoch)

    monkeypatch.setattr(pretrain_module, "learning_rate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe, store, tmp_path / "run")
    monkeypatch.undo()
    run = pretrain(recipe, store, tmp_path / "run", resume=True)
    one, other = (load_file(folder / "encoder.safetensors") for folder in (run, whole))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(weight.dtype != torch.bfloat16 for weight in one.values())
    with pytest.raises(RecipeError, match="different: training.precision"):
        pretrain(replace(recipe, training=replace(recipe.training, precision="32-true")), store, run, resume=True)


class NoRecorder:
    """Runs what it is given to record: a step on the same buffers without a CUDA graph."""

    def __init__(self):
        self.warmed_up = self.recorded = 0

    def warm_up(self, run):
        self.warmed_up += 1
        return run()

    def record(self, run):
        self.recorded += 1
        return run


def recorded(name):
    method = METHODS[name]().train()
    optimizer = make_optimizer(options_for(name), method.parameters())
    capturable(optimizer, torch.tensor(0.0, dtype=torch.float64))
    return RecordedStep(StaticStep(method, optimizer, nullcontext), NoRecorder())


@pytest.mark.parametrize("name", METHODS)
def test_recorded_steps_are_those_of_the_plain_loop(name):
    batch, plain, step = batch_for(name), METHODS[name]().train(), recorded(name)
    optimizer = make_optimizer(options_for(name), plain.parameters())
    for number, rate in enumerate(RATES):
        draws = Draws(0, number // 3)
        set_rate(optimizer, rate)
        set_rate(step.step.optimizer, rate)
        torch.manual_seed(number)
        values = plain.training_step(batch, draws, number)
        optimizer.zero_grad()
        values["loss"].backward()
        optimizer.step()
        torch.manual_seed(number)
        found = step(batch, draws, number)
        assert found.keys() == values.keys() and all(torch.equal(found[key], values[key]) for key in found)
    one, other = plain.state_dict(), step.step.method.state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert (step.recorder.warmed_up, step.recorder.recorded) == (WARM_UP, 1)


def places(step):
    """Addresses of everything that a recording reads and writes between steps."""
    state = [x for each in step.step.optimizer.state.values() for x in each.values() if isinstance(x, torch.Tensor)]
    rates = [group["lr"] for group in step.step.optimizer.param_groups]
    tensors = [*step.step.buffers, *step.step.method.state_dict().values(), *state, *rates]
    return [tensor.data_ptr() for tensor in tensors]


@pytest.mark.parametrize("name", METHODS)
def test_what_is_recorded_stays_in_place_and_never_waits_for_the_device(name, monkeypatch):
    batch, step = batch_for(name), recorded(name)
    for number in range(WARM_UP):
        step(batch, Draws(0, 0), number)
    before = places(step)
    for module in (times, chamfer):  # as on a GPU
        monkeypatch.setattr(module, "checks_values", lambda tensor: False)
    with NoWaiting():
        step(batch, Draws(0, 0), WARM_UP)
    set_rate(step.step.optimizer, 0.5)
    assert places(step) == before


def test_views_of_another_shape_are_refused():
    step = recorded("pstl")
    step(make_pairs(4), Draws(0, 0), 0)
    with pytest.raises(
        ValueError, match=r"views: expected \[\(\(4, 3, 12, 25, 2\), .*as in the first step, found \[\(\(3,"
    ):
        step(make_pairs(3), Draws(0, 0), 1)


@pytest.mark.parametrize(
    ("changes", "method", "processes", "message"),
    [
        ({}, None, 2, "expected one process, found 2"),
        ({"keep_last_batch": True}, None, 1, "expected batches of one size, found training.keep_last_batch"),
        ({}, PSTL_OPTIONS.official(), 1, "expected views of one shape, found pstl.repeated_joints"),
    ],
)
def test_runs_that_cannot_be_recorded_are_refused(changes, method, processes, message):
    chosen = make_pstl(method or PSTL_OPTIONS)
    optimizer = make_optimizer(TrainingOptions(), chosen.parameters())
    with pytest.raises(RecipeError, match=f"training.cuda_graph: {message}"):
        recorded_step(TrainingOptions(**changes), chosen, optimizer, torch.device("cuda"), processes)


def test_a_cpu_has_no_cuda_graph(store, tmp_path):
    recipe = replace(RECIPE, training=replace(RECIPE.training, cuda_graph=True))
    with pytest.raises(RecipeError, match="training.cuda_graph: expected a CUDA device, found the device cpu"):
        pretrain(recipe, store, tmp_path / "run")
