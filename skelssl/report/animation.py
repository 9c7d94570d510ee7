"""Moving skeletons as inline SVG, without a script."""

from html import escape

import numpy as np

from skelssl.skeletons import Skeleton

SIZE = 150
FRAMES_PER_SECOND = 20
MOST_FRAMES = 60


def animated_skeleton(title: str, frames: np.ndarray, skeleton: Skeleton) -> str:
    """A looping front view of one person.

    Args:
        title: shown below.
        frames: (T, V, 3) with y upwards.
        skeleton: whose bones are drawn.
    """
    frames = frames[:: -(-len(frames) // MOST_FRAMES)]
    points = _on_canvas(frames[:, :, :2])
    seconds = len(frames) / FRAMES_PER_SECOND
    bones = "".join(_bone(points[:, child], points[:, parent], seconds) for child, parent in skeleton.bones)
    name = escape(title)
    return (
        f'<figure><svg viewBox="0 0 {SIZE} {SIZE}" role="img"><title>{name}</title><g class="bones">{bones}</g></svg>'
        f"<figcaption>{name}</figcaption></figure>"
    )


def _on_canvas(points: np.ndarray) -> np.ndarray:
    """(T, V, 2) scaled as a whole, so that the movement through space shows."""
    low, high = points.min(axis=(0, 1)), points.max(axis=(0, 1))
    scale = 0.9 * SIZE / max(float((high - low).max()), 1e-6)
    placed = (points - (low + high) / 2) * scale + SIZE / 2
    placed[..., 1] = SIZE - placed[..., 1]
    return placed


def _bone(child: np.ndarray, parent: np.ndarray, seconds: float) -> str:
    ends = {"x1": child[:, 0], "y1": child[:, 1], "x2": parent[:, 0], "y2": parent[:, 1]}
    first = " ".join(f'{name}="{values[0]:.1f}"' for name, values in ends.items())
    moves = "".join(
        f'<animate attributeName="{name}" dur="{seconds:.2f}s" repeatCount="indefinite" '
        f'values="{";".join(f"{value:.1f}" for value in values)}"/>'
        for name, values in ends.items()
    )
    return f"<line {first}>{moves}</line>"
