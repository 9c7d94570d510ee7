import math

import pytest
import torch

from skelssl import skeletons
from skelssl.views.augment import (
    STREAMS,
    SequenceBatch,
    ViewPlan,
    cropped,
    rotation_matrices,
    sample_views,
    shear_matrices,
    whole_sequence,
)

SKELETON = skeletons.get("ntu25")
LENGTHS = (37, 1, 50, 120)


@pytest.fixture
def batch():
    frames = torch.randn(sum(LENGTHS), 2, 25, 3, generator=torch.Generator().manual_seed(0))
    return SequenceBatch(frames, torch.tensor([0, *LENGTHS]).cumsum(0), torch.tensor([3, 0, 1, 2, 0]))


def resized(batch, sample, frames=50):
    """(C, T, V, M) of one sequence by torch's own interpolation."""
    sequence = batch.frames[batch.offsets[sample] : batch.offsets[sample + 1]]
    flat = sequence.permute(1, 2, 3, 0).flatten(0, 1)
    return torch.nn.functional.interpolate(flat, frames, mode="linear").unflatten(0, (2, 25)).permute(2, 3, 1, 0)


def stream_of(clip, stream):
    if stream == "bone":
        return clip - clip[:, :, list(SKELETON.parents)]
    if stream == "motion":
        motion = torch.zeros_like(clip)
        motion[:, :-1] = clip.diff(dim=1)
        return motion
    return clip


@pytest.mark.parametrize("stream", STREAMS)
def test_views_are_streams_augmented_one_sample_at_a_time(batch, stream):
    generator = torch.Generator().manual_seed(1)
    start = torch.tensor([[-8.0], [8.0], [3.0], [0.0], [-1.0]])
    linear = torch.randn(5, 3, 3, generator=generator)
    flips = [True, False, True, True, False]
    order = torch.tensor([SKELETON.mirror_order if flip else tuple(range(25)) for flip in flips])
    plan = cropped(batch.lengths, 50, start)
    plan = ViewPlan(plan.times, plan.next_times, linear, order)
    (found,) = sample_views(batch, [plan], stream, SKELETON)
    for view, sample in enumerate(batch.samples.tolist()):
        clip = stream_of(resized(batch, sample), stream)
        padded = torch.cat((clip[:, :8].flip(1), clip, clip[:, -8:].flip(1)), dim=1)
        first = 8 + int(start[view])
        expected = torch.einsum("ctvm,cd->dtvm", padded[:, first : first + 50], linear[view])[:, :, order[view]]
        torch.testing.assert_close(found[view], expected, atol=1e-4, rtol=1e-4)


def test_whole_sequence_is_only_resized(batch):
    found = sample_views(batch, [whole_sequence(batch.lengths, 50)], "joint", SKELETON)[0]
    assert found.shape == (5, 3, 50, 25, 2)
    for view, sample in enumerate(batch.samples.tolist()):
        torch.testing.assert_close(found[view], resized(batch, sample), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stream", STREAMS)
def test_several_views_in_one_call_are_the_same_as_one_by_one(batch, stream):
    plans = []
    for seed, start in enumerate((-3.0, 6.0, 2.0)):
        plan = cropped(batch.lengths, 50, torch.full((5, 1), start))
        linear = torch.randn(5, 3, 3, generator=torch.Generator().manual_seed(seed))
        plans.append(ViewPlan(plan.times, plan.next_times, linear, torch.randperm(25).repeat(5, 1)))
    expected = [sample_views(batch, [plan], stream, SKELETON)[0] for plan in plans]
    two = ViewPlan(
        *(
            torch.cat([getattr(plan, name) for plan in plans[:2]])
            for name in ("times", "next_times", "linear", "joint_order")
        )
    )
    for together in (plans, [two, plans[2]]):
        found = sample_views(batch, together, stream, SKELETON)
        assert len(found) == 3
        assert all(map(torch.equal, found, expected))


def test_views_of_a_part_of_the_frames_are_those_of_all(batch):
    """Samples 3 and 0 alone, at places of their own."""
    frames = torch.cat([batch.frames[batch.offsets[sample] : batch.offsets[sample + 1]] for sample in (0, 3)])
    offsets = torch.tensor([0, LENGTHS[0], LENGTHS[0] + LENGTHS[3]])
    part = SequenceBatch(frames, offsets, torch.tensor([3, 0]), torch.tensor([1, 0]))
    assert part.lengths.tolist() == [120, 37]
    whole = SequenceBatch(batch.frames, batch.offsets, torch.tensor([3, 0]))
    found, expected = (
        sample_views(each, [whole_sequence(each.lengths, 50)], "motion", SKELETON)[0] for each in (part, whole)
    )
    assert torch.equal(found, expected)


def test_plans_that_do_not_go_together(batch):
    plain = whole_sequence(batch.lengths, 50)
    mapped = ViewPlan(plain.times, plain.next_times, torch.eye(3).repeat(5, 1, 1))
    with pytest.raises(ValueError, match="expected all views or none to have a linear,"):
        sample_views(batch, [plain, mapped], "joint", SKELETON)
    with pytest.raises(ValueError, match="expected one of joint, motion, bone, found 'speed'"):
        sample_views(batch, [plain], "speed", SKELETON)


def test_shear_has_ones_on_its_diagonal():
    shear = shear_matrices(torch.arange(1.0, 7)[None])
    assert shear[0].tolist() == [[1, 1, 2], [3, 1, 4], [5, 6, 1]]


@pytest.mark.parametrize(
    ("axis", "point", "image"), [(0, (0, 1, 0), (0, 0, -1)), (1, (0, 0, 1), (-1, 0, 0)), (2, (1, 0, 0), (0, -1, 0))]
)
def test_quarter_turns(axis, point, image):
    angles = torch.zeros(1, 3)
    angles[0, axis] = math.pi / 2
    found = torch.tensor(point, dtype=torch.float32) @ rotation_matrices(angles)[0]
    torch.testing.assert_close(found, torch.tensor(image, dtype=torch.float32), atol=1e-6, rtol=0)


def test_rotations_are_orthogonal_and_about_x_first():
    angles = torch.rand(10, 3) * 3
    rotation = rotation_matrices(angles)
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(10, 3, 3), atol=1e-5, rtol=0)
    one_by_one = [rotation_matrices(angles * torch.eye(3)[axis]) for axis in range(3)]
    torch.testing.assert_close(rotation, one_by_one[0] @ one_by_one[1] @ one_by_one[2], atol=1e-5, rtol=0)
