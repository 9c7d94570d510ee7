from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import RECIPE, write_run

from skelssl import skeletons
from skelssl.engine.recipe import RobustnessOptions
from skelssl.methods.hico import HiCoOptions
from skelssl.protocols import robustness
from skelssl.protocols.context import open_context
from skelssl.protocols.robustness import add_noise, lost_frames, remove_frames, turn, zero_frames, zero_joints
from skelssl.views.augment import SequenceBatch
from skelssl.views.contrast import ContrastOptions
from skelssl.views.draws import Draws

LENGTHS = torch.tensor([6, 1, 11])
SKELETON = skeletons.get("nw_ucla20")
OPTIONS = RobustnessOptions(joints=(3,), frames=(0.5,), noise=(0.1,), turns=(90.0,), draws=2)
SMALL = replace(RECIPE, evaluation=replace(RECIPE.evaluation, initialisations=1, linear_epochs=2, robustness=OPTIONS))


@pytest.fixture
def batch():
    """Three sequences of two persons; the second person is absent from the first sequence."""
    offsets = torch.cat((torch.zeros(1, dtype=torch.int64), LENGTHS.cumsum(0)))
    frames = torch.randn(int(offsets[-1]), 2, 5, 3, generator=torch.Generator().manual_seed(0))
    frames[:6, 1] = 0
    return SequenceBatch(frames, offsets, torch.tensor([4, 7, 9]), torch.arange(3))


def test_joints_are_zeroed_in_all_frames(batch):
    before = batch.frames.clone()
    found = zero_joints(batch, torch.tensor([1, 4])).frames
    assert not found[:, :, [1, 4]].any()
    assert torch.equal(found[:, :, [0, 2, 3]], before[:, :, [0, 2, 3]])
    assert torch.equal(batch.frames, before), "the batch stays as it was"


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_share_of_each_sequence_is_lost_and_one_frame_stays(batch, share):
    draws = Draws(0, 1)
    lost = lost_frames(batch, share, draws)
    counts = [int(part.sum()) for part in lost.split(LENGTHS.tolist())]
    assert counts == [min(round(share * n), n - 1) for n in LENGTHS.tolist()]
    zeroed, shorter = zero_frames(batch, share, draws), remove_frames(batch, share, draws)
    assert torch.equal(zeroed.frames.flatten(1).any(dim=1), ~lost)
    assert shorter.lengths.tolist() == [n - count for n, count in zip(LENGTHS.tolist(), counts, strict=True)]
    assert torch.equal(shorter.frames, batch.frames[~lost])
    assert not torch.equal(lost, lost_frames(batch, 0.5, Draws(0, 2)))


def test_which_frames_are_lost_does_not_depend_on_the_batch(batch):
    alone = SequenceBatch(batch.frames[7:], torch.tensor([0, 11]), torch.tensor([9]), torch.tensor([0]))
    assert torch.equal(lost_frames(alone, 0.5, Draws(0, 1)), lost_frames(batch, 0.5, Draws(0, 1))[7:])


def test_noise_has_its_deviation_and_spares_absent_persons(batch):
    large = replace(batch, frames=torch.cat((batch.frames, torch.ones(3000, 2, 5, 3))))
    large = replace(large, offsets=torch.tensor([0, 6, 7, 3018]))
    change = add_noise(large, 0.1, Draws(0, 0)).frames - large.frames
    assert not change[:6, 1].any()
    assert change[7:].std().item() == pytest.approx(0.1, rel=0.02)
    assert change.mean().abs() < 0.002


def test_a_turn_keeps_lengths_and_the_vertical(batch):
    found = turn(batch, 90.0, "z").frames
    torch.testing.assert_close(found.norm(dim=3), batch.frames.norm(dim=3))
    torch.testing.assert_close(found[..., 2], batch.frames[..., 2])
    torch.testing.assert_close(found[..., 0].abs(), batch.frames[..., 1].abs())
    torch.testing.assert_close(turn(turn(batch, 30.0, "-y"), -30.0, "y").frames, batch.frames)


def test_a_bone_is_lost_with_either_end():
    elbow = SKELETON.joint("left_elbow")
    remaining = robustness._remaining(torch.tensor([elbow]), SKELETON, "joint").tolist()
    assert remaining == [joint for joint in range(20) if joint != elbow]
    bones = robustness._remaining(torch.tensor([elbow]), SKELETON, "bone").tolist()
    assert bones == [joint for joint in remaining if joint != SKELETON.joint("left_wrist")]
    assert robustness._remaining(torch.arange(20), SKELETON, "bone").tolist() == [SKELETON.centre]


def settings(rows):
    return {(r.setting, r.level): r for r in rows if r.test == "test" and r.encoder == "trained"}


def test_all_curves_of_a_graph_encoder(store, tmp_path):
    context = open_context(write_run(tmp_path / "run", SMALL, store), store)
    rows = robustness.run(context)
    found = settings(rows)
    kinds = {setting for setting, _ in found}
    ways = ("zeroed", "removed")
    assert kinds == {
        *(f"{what} {way}" for what in ("joints", "frames") for way in ways),
        *(f"{part.replace('_', ' ')} {way}" for part in SKELETON.parts for way in ways),
        *("noise", "turned by degrees"),
    }
    assert all(r.value is not None and r.gain is not None for r in found.values())
    assert found["joints removed", 3.0].repeats == found["turned by degrees", 90.0].repeats == 2
    assert robustness.run(context) == rows


def test_without_damage_the_accuracy_is_that_of_the_linear_protocol(store, tmp_path):
    nothing = RobustnessOptions(joints=(), frames=(), noise=(0.0,), turns=(0.0,), draws=1)
    recipe = replace(SMALL, evaluation=replace(SMALL.evaluation, robustness=nothing))
    context = open_context(write_run(tmp_path / "run", recipe, store), store)
    expected = (context.classifiers["trained"][0].last == context.labels[1]).double().mean().item()
    found = settings(robustness.run(context))
    for setting in ("noise", "turned by degrees"):
        assert found[setting, 0.0].value == pytest.approx(100 * expected)


def test_encoders_of_all_joints_say_so(store, tmp_path):
    views = ContrastOptions(frames=16)
    hico = HiCoOptions(views=views, width=8, levels=2, encoder="gru", projection=8, projection_hidden=8, queue=16)
    recipe = replace(SMALL, method="hico", hico=hico)
    found = settings(robustness.run(open_context(write_run(tmp_path / "run", recipe, store), store)))
    removed = found["joints removed", 3.0]
    assert removed.value is None
    assert removed.note == "not possible: the encoder takes all joints"
    assert found["joints zeroed", 3.0].value is not None
    assert np.isfinite(found["frames removed", 0.5].value)
