"""Clips of equal length out of sequences of any length, with all of a batch's augmentations, in one call."""

import torch
from torch import Tensor

from skelkern import _cpu
from skelkern.checks import check_same, check_shape, check_tensor
from skelkern.cuda_kernels import cuda_kernel_why_not
from skelkern.dispatch import Implementation, cpu_kernel_why_not, register_op, runs_anything
from skelkern.memory import empty_output
from skelkern.numpy_interop import accepts_numpy
from skelkern.ops.sample_clips import reference
from skelkern.ops.sample_clips.cuda import sample_clips_cuda
from skelkern.ops.sample_clips.problem import SIGNATURE, check_values, clips_shape, empty_clips, sample_clips_problem
from skelkern.registration import address, addresses, register


@accepts_numpy
def sample_clips(
    frames: Tensor,
    offsets: Tensor,
    index: Tensor,
    times: Tensor,
    *,
    linear: Tensor | None = None,
    linear_joints: Tensor | None = None,
    translation: Tensor | None = None,
    joint_order: Tensor | None = None,
    joint_keep: Tensor | None = None,
    impl: str = "auto",
) -> Tensor:
    """Samples a batch of views of skeleton sequences, whose frames lie one after the other in one array.

    In this order: frames are interpolated linearly in time; joints are gathered by joint_order; points of the joints in
    linear_joints become row vector · linear; translation is added; joints not in joint_keep become 0. Channels beyond
    the third, such as a score, are neither mapped nor moved. Without gradients. `resize_times`, `nearest_times` and
    `mirror_times` make times. NumPy arrays are taken and then returned, neither copied.

    Args:
        frames: (F, M, V, C) float32 or bfloat16: M persons, V joints; may be larger than memory (a mapped file).
        offsets: (S + 1) int64, sample s holds frames offsets[s] to offsets[s + 1].
        index: (B) int64, sample of each view.
        times: (B, T) float32, in frames of the sample, clamped to it; whole numbers are frames themselves.
        linear: (B, 3, 3), C ≥ 3.
        linear_joints: (B, V) bool, joints that linear applies to, as numbered after joint_order; default all.
        translation: (B, 3), C ≥ 3, in the unit of the frames.
        joint_order: (B, V) int64, joint that each output joint is taken from.
        joint_keep: (B, V) bool.
        impl: "auto", "reference", "cpu" or "cuda"; see `skelkern.explain`.

    Returns:
        (B, C, T, V, M) float32 (float64 for float64 frames).

    Raises:
        TypeError: a dtype is not as listed.
        ValueError: shapes or devices do not fit, an index or a joint is out of range, offsets do not describe F
            frames, or a sample has none. On a GPU values are looked at with SKELKERN_CHECKS=1 only; views and joints
            out of range are 0.
    """
    tensors = (frames, offsets, index, times, linear, linear_joints, translation, joint_order, joint_keep)
    _check(*tensors)
    run = SAMPLE_CLIPS.choose(impl, *tensors)
    if times.numel() == 0 or frames[:1].numel() == 0:
        views, length = times.shape
        shape = (views, frames.shape[3], length, frames.shape[2], frames.shape[1])
        return torch.zeros(shape, dtype=torch.promote_types(frames.dtype, torch.float32), device=frames.device)
    with torch.no_grad():
        return run(*tensors)


def _check(frames: Tensor, offsets: Tensor, index: Tensor, times: Tensor, *options: Tensor | None) -> None:
    sizes: dict[str, int] = {}
    names = ("linear", "linear_joints", "translation", "joint_order", "joint_keep")
    patterns = ("B 3 3", "B V", "B 3", "B V", "B V")
    real, whole, boolean = (torch.float32, torch.float64), (torch.int64,), (torch.bool,)
    optional = zip(names, options, patterns, (real, boolean, real, whole, boolean), strict=True)
    rows = [
        ("frames", frames, "F M V C", (torch.float32, torch.bfloat16, torch.float64)),
        ("offsets", offsets, "S+1", whole),
        ("index", index, "B", whole),
        ("times", times, "B T", real),
        *((name, tensor, pattern, dtypes) for name, tensor, pattern, dtypes in optional if tensor is not None),
    ]
    for name, tensor, pattern, dtypes in rows:
        check_tensor(name, tensor, dtypes)
        check_shape(name, tensor, pattern, sizes)
        check_same("device", "frames", frames, **{name: tensor})
    if sizes["S+1"] == 0:
        raise ValueError("offsets: expected at least one entry, found none")
    moves = options[0] is not None or options[2] is not None
    if moves and sizes["C"] < 3:
        raise ValueError(f"frames: expected at least 3 channels for linear or translation, found {sizes['C']}")


def _reference(frames: Tensor, offsets: Tensor, index: Tensor, times: Tensor, *options: Tensor | None) -> Tensor:
    if not torch.compiler.is_compiling():
        check_values(frames, offsets, index, options[3])
    return reference.sample_clips(frames, offsets, index, times, *options)


def _run(frames: Tensor, offsets: Tensor, index: Tensor, times: Tensor, *options: Tensor | None) -> Tensor:
    arrays, half, sizes = sample_clips_problem(frames, offsets, index, times, *options)
    clips = empty_output(*clips_shape(frames, times))
    if not _cpu.sample_clips(addresses(*arrays), half, sizes, torch.get_num_threads(), address(clips)):
        check_values(frames, offsets, index, options[3])
    return clips


sample_clips_cpu = register(f"sample_clips_cpu{SIGNATURE}", device="CPU", run=_run, fake=empty_clips)

SAMPLE_CLIPS = register_op(
    "sample_clips",
    Implementation("cuda", sample_clips_cuda, cuda_kernel_why_not),
    Implementation("cpu", sample_clips_cpu, cpu_kernel_why_not),
    Implementation("reference", _reference, runs_anything),
)
