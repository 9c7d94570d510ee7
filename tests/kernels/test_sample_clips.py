import numpy as np
import pytest
import torch
from budget import check_budget
from cases import sample_clips_inputs

import skelkern

OPTIONS = ("linear", "linear_joints", "translation", "joint_order", "joint_keep")


def make_inputs(persons=2, joints=25, channels=3, length=9, options=OPTIONS, lengths=(17, 1, 22)):
    def make(seed):
        generator = torch.Generator().manual_seed(seed)

        def randn(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        views = 4
        everything = {
            "linear": randn(views, 3, 3),
            "linear_joints": torch.rand(views, joints, generator=generator) < 0.5,
            "translation": randn(views, 3),
            "joint_order": torch.randint(joints, (views, joints), generator=generator),
            "joint_keep": torch.rand(views, joints, generator=generator) < 0.8,
        }
        return {
            "frames": randn(sum(lengths), persons, joints, channels),
            "offsets": torch.tensor((0, *lengths)).cumsum(0),
            "index": torch.tensor([2, 0, 1, 2]),
            "times": 25 * torch.rand(views, length, generator=generator) - 1,
        } | {name: everything[name] for name in options}

    return make


@pytest.mark.parametrize(
    ("persons", "joints", "channels"),
    [(2, 25, 3), (1, 20, 3), (1, 1, 3), (3, 17, 4), (2, 5, 7), (2, 64, 4), (3, 60, 3)],
)
def test_error_budget(persons, joints, channels):
    check_budget(skelkern.sample_clips, make_inputs(persons, joints, channels))


@pytest.mark.parametrize("option", OPTIONS)
def test_error_budget_of_each_option(option):
    options = ("linear", "linear_joints") if option == "linear_joints" else (option,)
    check_budget(skelkern.sample_clips, make_inputs(options=options))


def test_fewer_channels_are_only_sampled():
    check_budget(skelkern.sample_clips, make_inputs(channels=2, options=("joint_order", "joint_keep")))


def test_clips_longer_than_one_task():
    check_budget(skelkern.sample_clips, make_inputs(length=131))


def test_bfloat16_frames_are_converted_exactly():
    inputs = {k: v.float() if v.is_floating_point() else v for k, v in make_inputs(channels=5)(0).items()}
    half = inputs["frames"].bfloat16()
    found = skelkern.sample_clips(**inputs | {"frames": half})
    assert found.dtype == torch.float32
    assert torch.equal(found, skelkern.sample_clips(**inputs | {"frames": half.float()}))


def test_whole_times_are_frames_even_beside_nan(kernel):
    frames = torch.arange(12.0).reshape(6, 1, 2, 1)
    frames[3] = torch.nan
    times = torch.tensor([[-5.0, 0.0, 2.0, 9.0]])
    for impl in (kernel, "reference"):
        clips = skelkern.sample_clips(frames, torch.tensor([0, 4, 6]), torch.tensor([0]), times, impl=impl)
        assert clips[0, 0, :3, :, 0].tolist() == [[0, 1], [0, 1], [4, 5]]
        assert clips[0, 0, 3].isnan().all()


def test_a_nan_time_gives_nan(kernel):
    frames, offsets, index = torch.ones(3, 1, 2, 3), torch.tensor([0, 3]), torch.tensor([0])
    times = torch.tensor([[1.0, torch.nan]])
    for impl in (kernel, "reference"):
        clips = skelkern.sample_clips(frames, offsets, index, times, impl=impl)
        assert clips.isnan().any(dim=1)[0, :, 0, 0].tolist() == [False, True]


def test_order_of_the_steps():
    frames = torch.tensor([[[[1.0, 2, 3], [4, 5, 6]]]])  # one frame, one person, two joints
    swap = torch.tensor([[[0.0, 1, 0], [1, 0, 0], [0, 0, 2]]])
    clips = skelkern.sample_clips(
        frames,
        torch.tensor([0, 1]),
        torch.tensor([0]),
        torch.zeros(1, 1),
        joint_order=torch.tensor([[1, 1]]),
        linear=swap,
        linear_joints=torch.tensor([[False, True]]),
        translation=torch.tensor([[10.0, 20, 30]]),
        joint_keep=torch.tensor([[True, True]]),
    )
    assert clips[0, :, 0, 0, 0].tolist() == [14, 25, 36]
    assert clips[0, :, 0, 1, 0].tolist() == [15, 24, 42]


def test_left_out_joints_are_zero_even_if_nan(kernel):
    inputs = sample_clips_inputs(0)
    inputs["frames"][:] = torch.nan
    for impl in (kernel, "reference"):
        clips = skelkern.sample_clips(**inputs, impl=impl)
        kept = inputs["joint_keep"][:, None, None, :, None].expand_as(clips)
        assert clips[kept].isnan().all()
        assert (clips[~kept] == 0).all()


def test_has_no_gradient(kernel):
    inputs = sample_clips_inputs(0)
    inputs["frames"].requires_grad_()
    for impl in (kernel, "reference"):
        assert not skelkern.sample_clips(**inputs, impl=impl).requires_grad


def test_non_contiguous_inputs():
    inputs = sample_clips_inputs(0)
    expected = skelkern.sample_clips(**inputs)
    spread = {k: torch.stack((v, v), dim=-1)[..., 0] for k, v in inputs.items()}
    assert not spread["frames"].is_contiguous()
    assert torch.equal(skelkern.sample_clips(**spread), expected)


@pytest.mark.cpu_kernel
def test_numpy_arrays_are_shared_and_returned():
    inputs = sample_clips_inputs(0)
    arrays = {k: v.numpy() for k, v in inputs.items()}
    arrays["frames"].flags.writeable = False
    found = skelkern.sample_clips(**arrays)
    assert isinstance(found, np.ndarray)
    assert np.array_equal(found, skelkern.sample_clips(**inputs).numpy())


@pytest.mark.cpu_kernel
def test_memory_mapped_frames(tmp_path):
    inputs = {k: v.numpy() for k, v in sample_clips_inputs(0).items()}
    np.save(tmp_path / "frames.npy", inputs["frames"])
    mapped = np.load(tmp_path / "frames.npy", mmap_mode="c")
    assert np.array_equal(skelkern.sample_clips(**inputs | {"frames": mapped}), skelkern.sample_clips(**inputs))


@pytest.mark.parametrize("size", ["views", "length", "persons", "joints"])
def test_zero_sizes(size):
    views, length, persons, joints = (0 if name == size else 2 for name in ("views", "length", "persons", "joints"))
    frames, offsets = torch.zeros(3, persons, joints, 3), torch.tensor([0, 3])
    clips = skelkern.sample_clips(frames, offsets, torch.zeros(views, dtype=torch.long), torch.zeros(views, length))
    assert clips.shape == (views, 3, length, joints, persons)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"index": torch.tensor([0, 3, 0, 0])}, ValueError, r"index: .* \[0, 3\), as there are 3 samples, found 3"),
        ({"index": torch.tensor([0, -1, 0, 0])}, ValueError, "index: .* found -1"),
        ({"index": torch.zeros(4)}, TypeError, "index: expected torch.int64, found torch.float32"),
        ({"offsets": torch.tensor([0, 17, 17, 40])}, ValueError, r"offsets: .* for sample 1, found \[17, 17\)"),
        ({"offsets": torch.tensor([0, 17, 18, 41])}, ValueError, r"inside \[0, 40\) for sample 2, found \[18, 41\)"),
        ({"offsets": torch.tensor([-1, 17, 18, 40])}, ValueError, r"found \[-1, 17\)"),
        ({"joint_order": torch.full((4, 25), 25)}, ValueError, r"joint_order: .* \[0, 25\), .* joints, found 25"),
        ({"joint_keep": torch.ones(4, 24, dtype=torch.bool)}, ValueError, r"joint_keep: .* V=25, found \(4, 24\)"),
        ({"linear": torch.ones(4, 2, 2)}, ValueError, r"linear: expected shape \(B, 3, 3\)"),
        ({"frames": torch.zeros(40, 2, 25, 2)}, ValueError, "at least 3 channels .* found 2"),
        ({"frames": torch.zeros(40, 2, 25, 3, dtype=torch.float16)}, TypeError, "frames: expected torch.float32 or"),
        ({"times": torch.zeros(3, 5)}, ValueError, r"times: .* B=4, .* found \(3, 5\)"),
        ({"times": [1.0]}, TypeError, "times: expected a torch.Tensor, found list"),
    ],
)
def test_wrong_arguments(impl, change, error, message):
    with pytest.raises(error, match=message):
        skelkern.sample_clips(**sample_clips_inputs(0) | change, impl=impl)


@pytest.mark.parametrize(("count", "frames"), [(20, 50), (50, 20), (1, 7), (7, 1)])
def test_resize_and_nearest_times_are_torch_interpolation(count, frames):
    sequence = torch.randn(1, 5, count)
    flat = sequence[0].T.reshape(count, 1, 1, 5).contiguous()
    for mode, times, options in (
        ("linear", skelkern.resize_times(0, count, frames), {"align_corners": False}),
        ("nearest", skelkern.nearest_times(0, count, frames), {}),
    ):
        clips = skelkern.sample_clips(flat, torch.tensor([0, count]), torch.tensor([0]), times.to(flat.device))
        expected = torch.nn.functional.interpolate(sequence, frames, mode=mode, **options)
        torch.testing.assert_close(clips[:, :, :, 0, 0], expected)


def test_resize_times_stay_inside_the_crop():
    times = skelkern.resize_times(torch.tensor([3, 10]), torch.tensor([5, 1]), 20)
    assert times[0].min() == 3
    assert times[0].max() == 7
    assert (times[1] == 10).all()


def test_mirror_times_repeat_the_end_frames():
    assert skelkern.mirror_times(torch.tensor([-3.0, 2.0]), 4, 7).tolist() == [
        [2, 1, 0, 0, 1, 2, 3],
        [2, 3, 3, 2, 1, 0, 0],
    ]


def test_times_of_no_frames_are_refused():
    with pytest.raises(ValueError, match="length: expected at least 1 frame, found 0"):
        skelkern.resize_times(torch.tensor([0, 0]), torch.tensor([4, 0]), 3)
