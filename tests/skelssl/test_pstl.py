from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from skelkern.ops.sample_clips import times
from skelssl import skeletons
from skelssl.encoders.stgcn import STGCN
from skelssl.methods.pstl import PSTL, PSTLOptions
from skelssl.views.augment import SequenceBatch
from skelssl.views.augmentations import central_spatial_masking, motion_attention, motion_attention_masking
from skelssl.views.draws import Draws

SKELETON = skeletons.get("ntu25")
SMALL = PSTLOptions(projector=32)
DEGREES = torch.tensor(SKELETON.degrees)


def make_batch(samples=6, persons=2, joints=25):
    lengths = torch.randint(20, 90, (samples,), generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    frames = torch.randn(int(lengths.sum()), persons, joints, 3, generator=generator)
    offsets = torch.cat((torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)))
    return SequenceBatch(frames, offsets, torch.arange(samples))


def make_method(options=SMALL, **encoder):
    torch.manual_seed(0)
    return PSTL(STGCN(SKELETON, **encoder), SKELETON, options)


class Recorder(nn.Module):
    """An encoder that keeps what it is given."""

    feature_dim = 8

    def __init__(self):
        super().__init__()
        self.seen = []
        self.linear = nn.Linear(3, 8)

    def forward(self, clips, joints=None):
        self.seen.append((clips, joints))
        return self.linear(clips.mean(dim=(2, 3, 4)))


def test_encoder_has_the_published_size_and_keys():
    encoder = STGCN(SKELETON)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 821_380
    state = encoder.state_dict()
    assert len(state) == 177
    assert state["A"].shape == (3, 25, 25)
    assert state["edge_importance.9"].shape == (3, 25, 25)
    assert state["st_gcn_networks.4.gcn.conv.weight"].shape == (96, 16, 1, 1)
    assert state["st_gcn_networks.9.tcn.2.weight"].shape == (256, 256, 9, 1)
    assert state["st_gcn_networks.7.residual.0.weight"].shape == (64, 32, 1, 1)
    assert "st_gcn_networks.3.residual.0.weight" not in state


@pytest.mark.parametrize(("frames", "lengths"), [(50, [50, 25, 13]), (30, [30, 15, 8])])
def test_time_lengths(frames, lengths):
    encoder = STGCN(SKELETON).eval()
    seen = []
    for number in (0, 4, 7):
        encoder.st_gcn_networks[number].register_forward_hook(lambda _, __, y: seen.append(y.shape[2]))
    assert encoder(torch.randn(2, 3, frames, 25, 2)).shape == (2, 256)
    assert seen == lengths


@pytest.mark.parametrize("kept", [17, 18, 24])
def test_features_of_fewer_joints(kept):
    encoder = STGCN(SKELETON).eval()
    joints = torch.randperm(25, generator=torch.Generator().manual_seed(kept))[:kept].sort().values
    assert encoder(torch.randn(2, 3, 16, 25, 1), joints).shape == (2, 256)


def test_removing_no_joint_is_the_plain_encoder():
    encoder = STGCN(SKELETON).eval()
    clips = torch.randn(2, 3, 16, 25, 2)
    torch.testing.assert_close(encoder(clips, torch.arange(25)), encoder(clips))


def test_a_removed_joint_does_not_matter():
    encoder = STGCN(SKELETON).eval()
    clips = torch.randn(2, 3, 16, 25, 2)
    joints = torch.tensor([joint for joint in range(25) if joint != 7])
    expected = encoder(clips, joints)
    clips[:, :, :, 7] = 99
    assert torch.equal(encoder(clips, joints), expected)


def test_renormalised_columns_add_up_to_one():
    joints = torch.tensor([0, 1, 2, 3, 4, 20])
    plain, renormalised = (
        STGCN(SKELETON, renormalise=flag)._adjacency(torch.ones(3, 25, 25), joints) for flag in (False, True)
    )
    assert plain.sum((0, 1)).min() < 0.9
    torch.testing.assert_close(renormalised.sum((0, 1)), torch.ones(6))


def test_wrong_clips_are_named():
    with pytest.raises(ValueError, match=r"with C=3, V=25, found \(2, 3, 16, 20, 2\)"):
        STGCN(SKELETON)(torch.randn(2, 3, 16, 20, 2))


def test_loss_has_a_gradient_everywhere_and_falls():
    method = make_method(dropout=0.0)
    batch = make_batch()
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)
    losses = []
    for step in range(12):
        optimizer.zero_grad()
        result = method.training_step(batch, Draws(0, 0), step=0)
        result["loss"].backward()
        if step == 0:
            assert torch.equal(result["loss"].detach(), result["matm"] + result["csm"])
            missing = [name for name, p in method.named_parameters() if p.grad is None or not p.grad.any()]
            # a bias before a batch normalisation has no effect, so its gradient is 0 up to rounding
            assert all(name.endswith("bias") for name in missing)
        optimizer.step()
        losses.append(result["loss"].item())
    assert losses[-1] < 0.7 * losses[0]


def test_a_step_is_a_function_of_seed_epoch_and_step():
    batch = make_batch()
    losses = [make_method().training_step(batch, Draws(0, 1), step)["loss"] for step in (3, 3, 4)]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])


def test_views_do_not_depend_on_the_rest_of_the_batch():
    batch = make_batch()
    both = []
    for samples in (torch.tensor([0, 1, 2]), torch.tensor([5, 2])):
        encoder = Recorder()
        PSTL(encoder, SKELETON, SMALL).training_step(replace(batch, samples=samples), Draws(0, 0), step=0)
        both.append(encoder.seen)
    for (first, _), (second, _) in zip(*both, strict=True):
        assert torch.equal(first[2], second[1])
    assert not torch.equal(both[0][0][0], both[0][2][0]), "anchor and CSM view have draws of their own"


@pytest.mark.parametrize(("options", "equal"), [(SMALL, False), (SMALL.official(), True)], ids=["paper", "official"])
def test_official_draws_once_for_the_batch(options, equal):
    batch = make_batch()
    still = replace(batch, frames=batch.frames[:1].expand_as(batch.frames), samples=torch.tensor([0, 1]))
    encoder = Recorder()
    PSTL(encoder, SKELETON, options).training_step(still, Draws(0, 0), step=0)
    clips = encoder.seen[0][0]
    assert torch.allclose(clips[0], clips[1], atol=1e-5) == equal


def test_matm_loses_the_burst_of_motion():
    frames = torch.zeros(1, 3, 50, 25, 1)
    frames[:, :, 20:26, :, :] = torch.arange(6.0)[:, None, None] * 5  # jumps between 20 and 26
    time = torch.arange(50.0)[None, None, :, None, None] / 1000
    kept = motion_attention_masking(frames + time, Draws(0, 0), torch.tensor([0]), 10)
    assert kept.shape == (1, 3, 30, 25, 1)
    shown = kept[0, 0, :, 0, 0]
    assert (shown.diff() > 0).sum() >= 28  # in order
    # the frame before each of the jumps 20-21, ..., 24-25 and 25-26 is dropped: of the burst nothing is left
    assert not ((shown > 1) & (shown < 26)).any()


def test_motion_attention_is_a_mean_over_coordinates_joints_and_persons():
    clips = torch.zeros(2, 3, 4, 5, 2)
    clips[1, 0, 2, 3, 1] = 3.0  # one coordinate of one joint of one person, of 30 numbers a frame
    expected = torch.tensor([[0.0] * 4, [0.0, -9 / 30, -9 / 30, 0.0]])
    torch.testing.assert_close(motion_attention(clips), expected)


def test_csm_removes_exactly_so_many_joints_by_degree():
    counts = torch.zeros(25)
    for step in range(2000):
        kept = central_spatial_masking(DEGREES, Draws(0, 0), torch.tensor([step]), 8)
        assert len(kept) == 17
        counts += 1 - torch.nn.functional.one_hot(kept, 25).sum(0)
    share = counts / 2000
    by_degree = {degree: share[degree == DEGREES].mean().item() for degree in (1, 2, 3, 4)}
    assert by_degree[1] < by_degree[2] < by_degree[3] < by_degree[4]
    assert share.sum() == pytest.approx(8)


def test_official_csm_may_draw_a_joint_twice():
    masked, shares = [], torch.zeros(25)
    for step in range(3000):
        kept = central_spatial_masking(DEGREES, Draws(0, 0), torch.tensor([step]), 8, repeated=True)
        masked.append(25 - len(kept))
        shares += (1 - torch.nn.functional.one_hot(kept, 25).sum(0)) / 3000
    distinct = torch.tensor(masked).bincount(minlength=9) / 3000
    assert distinct[8] == pytest.approx(0.468, abs=0.03)
    assert distinct[7] == pytest.approx(0.416, abs=0.03)
    assert distinct[6] == pytest.approx(0.107, abs=0.02)
    for degree, expected in ((1, 0.167), (2, 0.309), (3, 0.429), (4, 0.530)):
        assert shares[degree == DEGREES].mean() == pytest.approx(expected, abs=0.03)


def test_projecting_once_or_twice_is_the_same_loss():
    batch = make_batch()
    losses = [
        make_method(replace(SMALL, project_twice=twice), dropout=0.0).training_step(batch, Draws(0, 0), 0)["loss"]
        for twice in (False, True)
    ]
    torch.testing.assert_close(losses[0], losses[1])


class NoWaiting(TorchDispatchMode):
    """Refuses what would make the CPU wait for a GPU: values as Python numbers, shapes that depend on values."""

    WAITS = (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.is_nonzero)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function.overloadpacket not in self.WAITS, f"{function} waits for the device"
        return function(*args, **(kwargs or {}))


def test_a_step_never_waits_for_the_device(monkeypatch):
    monkeypatch.setattr(times, "checks_values", lambda tensor: False)  # as on a GPU
    method, batch = make_method(), make_batch()
    with NoWaiting():
        method.training_step(batch, Draws(0, 0), 0)["loss"].backward()
    with pytest.raises(AssertionError, match="waits for the device"), NoWaiting():
        make_method(SMALL.official()).training_step(batch, Draws(0, 0), 0)  # how many joints it removes is drawn


@pytest.mark.parametrize("stream", ["joint", "motion", "bone"])
def test_every_stream_trains(stream):
    method = make_method(replace(SMALL, stream=stream))
    batch = make_batch()
    assert method.training_step(batch, Draws(0, 0), 0)["loss"].isfinite()


def test_a_batch_of_one_frame_sequences_and_another_skeleton():
    skeleton = skeletons.get("nw_ucla20")
    frames = torch.randn(4, 1, 20, 3)
    batch = SequenceBatch(frames, torch.arange(5), torch.arange(4))
    method = PSTL(STGCN(skeleton), skeleton, replace(SMALL, masked_joints=6))
    assert method.training_step(batch, Draws(0, 0), 0)["loss"].isfinite()


def test_options_out_of_range():
    with pytest.raises(ValueError, match="masked_joints: expected less than the skeleton's 25, found 25"):
        make_method(replace(SMALL, masked_joints=25))
    with pytest.raises(ValueError, match="masked_frames: expected less than half of frames=50, found 25"):
        make_method(replace(SMALL, masked_frames=25))
