"""Every augmentation alone."""

import pytest
import torch

from skelssl import skeletons
from skelssl.views.augment import SequenceBatch, sample_views, whole_sequence
from skelssl.views.augmentations import (
    AUGMENTATIONS,
    CORRUPTION,
    SHEAR,
    augment,
    corruption,
    jitter,
    lost_joints,
    shear,
    words_for,
)
from skelssl.views.draws import Draws

NTU = skeletons.get("ntu25")
LENGTHS = (37, 1, 60, 20)
FRAMES = 20
DRAWS = Draws(3, 0)


@pytest.fixture(scope="module")
def batch():
    frames = torch.randn(sum(LENGTHS), 2, 25, 3, generator=torch.Generator().manual_seed(0)).cumsum(0)
    return SequenceBatch(frames, torch.tensor([0, *LENGTHS]).cumsum(0), torch.arange(4))


@pytest.fixture(scope="module")
def plain(batch):
    """(B, C, T, V, M) resized alone."""
    return sample_views(batch, [whole_sequence(batch.lengths, FRAMES)], "joint", NTU)[0]


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_views_are_functions_of_seed_and_sample(batch, name):
    clips, left = augment(name, batch, DRAWS, NTU, FRAMES)
    assert clips.shape[:2] == (4, 3) and clips.shape[3:] == (25, 2) and clips.isfinite().all()
    assert left.shape == (4, *clips.shape[2:]) and left.dtype == torch.bool
    part = SequenceBatch(batch.frames, batch.offsets, batch.samples[[2, 0]])
    for whole, some in zip((clips, left), augment(name, part, DRAWS, NTU, FRAMES), strict=True):
        assert torch.equal(whole[[2, 0]], some)
    others = augment(name, batch, Draws(4, 0), NTU, FRAMES)
    if name != "flip":  # alone it is certain
        assert not torch.equal(clips, others[0]) or not torch.equal(left, others[1])


@pytest.mark.parametrize(("name", "bound"), [("shear", 2.0), ("rotation", 0.0), ("vertical-rotation", 0.0)])
def test_maps_of_all_points(batch, plain, name, bound):
    clips, left = augment(name, batch, DRAWS, NTU, FRAMES)
    assert left.all()
    for clip, before in zip(clips.double(), plain.double(), strict=True):
        points, images = before.flatten(1).T, clip.flatten(1).T
        matrix = torch.linalg.lstsq(points, images).solution
        torch.testing.assert_close(points @ matrix, images, rtol=1e-4, atol=1e-4)
        rigid = (matrix @ matrix.T - torch.eye(3)).abs().max() < 1e-4
        assert rigid == (bound == 0) and (matrix - torch.eye(3)).abs().max() < (bound or 0.6)
        if name == "vertical-rotation":
            torch.testing.assert_close(matrix[1], torch.tensor([0.0, 1, 0]).double(), rtol=0, atol=1e-4)


def test_corrupted_joints(batch, plain):
    clips, left = augment("lost-joints", batch, DRAWS, NTU, FRAMES)
    assert torch.equal(clips, plain), "what is lost is still there"
    assert (left[:, 0, :, 0].sum(dim=1) == 10).all() and (left == left[:, :1, :, :1]).all()
    clips, left = augment("jitter", batch, DRAWS, NTU, FRAMES)
    same = (clips == plain).all(dim=1).flatten(3).all(dim=3).all(dim=1)
    assert left.all() and (same.sum(dim=1) == 10).all()


def test_corruption_is_either(batch):
    words = DRAWS.words_of_steps(torch.arange(400), ["view"], words_for(CORRUPTION, 25))
    plan = whole_sequence(torch.full((400,), 30), FRAMES)
    either, lost, mapped = corruption(plan, words), lost_joints(plan, words), jitter(plan, words)
    loses = ~either.joint_keep.all(dim=1)
    assert 0.4 < loses.float().mean() < 0.6
    assert torch.equal(either.joint_keep[loses], lost.joint_keep[loses]) and not either.linear_joints[loses].any()
    assert torch.equal(either.linear_joints[~loses], mapped.linear_joints[~loses])
    assert torch.equal(either.linear, mapped.linear)


@pytest.mark.parametrize(
    ("name", "shared"), [("masked-points", ()), ("masked-frames", (2, 3)), ("masked-joints", (1, 3))]
)
def test_masked_clouds(batch, plain, name, shared):
    clips, left = augment(name, batch, DRAWS, NTU, FRAMES)
    assert torch.equal(clips, plain)
    assert (left.flatten(1).sum(dim=1) == 0.6 * FRAMES * 25 * 2).all()
    for axis in shared:
        assert (left == left.select(axis, 0).unsqueeze(axis)).all(), (
            "whole frames, or joints of both persons through all frames"
        )


def test_crops_lie_inside_their_sequences(batch):
    for name in ("crop", "crop-resize"):
        clips, _ = augment(name, batch, DRAWS, NTU, FRAMES)
        for clip, sample in zip(clips, range(4), strict=True):
            sequence = batch.frames[batch.offsets[sample] : batch.offsets[sample + 1]]
            assert clip.max() <= sequence.max() + 1e-4 and clip.min() >= sequence.min() - 1e-4
        torch.testing.assert_close(clips[1], clips[1][:, :1].expand_as(clips[1]), msg="a single frame is repeated")


def test_masks_of_pstl(batch):
    still, left = augment("pstl-matm", batch, DRAWS, NTU, FRAMES)
    assert still.shape[2] == FRAMES - 2 * (FRAMES // 5) and left.all()
    _, left = augment("pstl-csm", batch, DRAWS, NTU, FRAMES)
    assert (left == left[:1, :1, :, :1]).all() and left[0, 0, :, 0].sum() == 25 - 8


def test_what_does_not_go_together_and_unknown_names(batch):
    words = DRAWS.words_of_steps(batch.samples, ["view"], words_for({**CORRUPTION, **SHEAR}, 25))
    plan = jitter(whole_sequence(batch.lengths, FRAMES), words)
    with pytest.raises(
        ValueError, match="plan: expected one whose joints are all mapped alike, found one of corrupted"
    ):
        shear(plan, words)
    with pytest.raises(ValueError, match="augment: expected one of crop, .*masked-joints, found 'blur'"):
        augment("blur", batch, DRAWS, NTU, FRAMES)
