"""What encoders ask of their input, clips (N, C, T, V, M)."""

from torch import Tensor


def check_clips(
    clips: Tensor, channels: int, joints: int, persons: int | None = None, frames: int | None = None
) -> None:
    """Refuses clips of another form.

    Args:
        clips: expected to be (N, C, T, V, M) of a floating-point type.
        channels: C.
        joints: V.
        persons: M, or None for any number.
        frames: T, or None for any number.

    Raises:
        TypeError: the clips hold no floating-point numbers.
        ValueError: they have another shape.
    """
    if not clips.is_floating_point():
        raise TypeError(f"clips: expected floating-point numbers, found {clips.dtype}")
    expected = {"C": (1, channels), "V": (3, joints), "M": (4, persons), "T": (2, frames)}
    fixed = {name: size for name, (_, size) in expected.items() if size is not None}
    if clips.dim() != 5 or any(clips.shape[place] != size for place, size in expected.values() if size is not None):
        sizes = ", ".join(f"{name}={size}" for name, size in fixed.items())
        raise ValueError(f"clips: expected (N, C, T, V, M) with {sizes}, found {tuple(clips.shape)}")
    if min(clips.shape[2], clips.shape[4]) == 0:
        raise ValueError(f"clips: expected at least one frame and one person, found {tuple(clips.shape)}")
