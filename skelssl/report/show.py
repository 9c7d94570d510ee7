"""`skelssl show`: samples as pictures."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from skelssl.report.clip import KINECT_RATE, Clip, augmented, in_layout, read_clip
from skelssl.report.film import write_film


def show(
    samples: Sequence[str],
    out: Path,
    *,
    augment: str | None = None,
    layout: str | None = None,
    seed: int = 0,
    views: Sequence[str] = ("front",),
    skeleton: str | None = None,
    units: str | None = None,
    up: str | None = None,
    fps: float = KINECT_RATE,
    frames: int = 8,
) -> list[str]:
    """Draws one sample or two beside each other into `out`, a .gif or .png.

    Args:
        samples: one or two, see `skelssl.report.clip.read_clip`, which skeleton, units, up and fps are for as well.
        augment: beside one sample, what an augmentation makes of it with `seed`, see `augmented`.
        layout: beside one sample, its joints as those of another layout, with a line on each that is not the same.
        views: of "front" and "side".
        frames: key frames of a .png.

    Returns:
        Lines to print.

    Raises:
        StoreError: a sample cannot be read.
        ValueError: an option that is none, or more than two clips to show.
    """
    if len(samples) + (augment is not None) + (layout is not None) > 2:
        raise ValueError("samples: expected two clips at most: a sample and another one, --augment or --layout")
    clips = [read_clip(sample, skeleton=skeleton, units=units, up=up, rate=fps) for sample in samples]
    lines = []
    if augment is not None:
        clips.append(augmented(clips[0], augment, seed))
    if layout is not None:
        converted, conversion = in_layout(clips[0], layout)
        clips.append(converted)
        lines.append(str(conversion))
    write_film(_labelled(clips), out, views=views, key_frames=frames)
    return [*lines, f"picture: {out}"]


def _labelled(clips: list[Clip]) -> list[Clip]:
    """Names for what stands beside each other; a label that a clip has already stays."""
    if len(clips) == 1:
        return clips
    if clips[1].label:
        first = clips[0].skeleton.name if clips[1].skeleton != clips[0].skeleton else "before"
        return [replace(clips[0], label=first), clips[1]]
    return [replace(clip, label=clip.details[0]) for clip in clips]
