"""Moving skeletons as inline SVG, without a script: a path for each side of a person, and its head."""

import numpy as np

from skelssl.report.clip import Clip
from skelssl.report.drawing import LEFT, MARGIN, MIDDLE, PERSONS, RIGHT, Projection, body_height, project
from skelssl.report.style import SIDES

WIDTH, HEIGHT = 200, 200
PICTURES_PER_SECOND = 10  # between which the browser moves joints in straight lines
MOST_PICTURES = 36


def animated_clip(clip: Clip) -> str:
    """A looping front view of everyone in a clip at its own speed; limbs of lost joints are thin."""
    projection = project(clip, "front")
    count = int(np.clip(np.ceil(clip.seconds * PICTURES_PER_SECOND), 2, MOST_PICTURES))
    pictures = np.linspace(0, len(clip.points) - 1, count).round().astype(int)
    points, scale, floor = _on_canvas(projection)
    limb = float(np.clip(0.05 * body_height(projection) * scale, 2.0, 9.0))
    parts = [f'<path class="floor" d="M0 {floor:.0f}h{WIDTH}"/>']
    for person in np.flatnonzero(clip.known.any(axis=(0, 2))):
        parts += _person(clip, points[pictures, person], pictures, int(person), limb)
    return f'<svg class="motion" viewBox="0 0 {WIDTH} {HEIGHT}" stroke-width="{limb:.1f}">{"".join(parts)}</svg>'


def _on_canvas(projection: Projection) -> tuple[np.ndarray, float, float]:
    """(T, M, V, 2) pixels, the whole movement in the picture; pixels for one unit; and the floor's height."""
    left, bottom, right, top = projection.box
    inner = (1 - 2 * MARGIN) * HEIGHT
    scale = inner / max(top - bottom, right - left, 1e-6)
    origin = np.array([WIDTH / 2 - (left + right) / 2 * scale, HEIGHT - MARGIN * HEIGHT + bottom * scale])
    return projection.places * (scale, -scale) + origin, scale, float(origin[1] - projection.ground * scale)


def _person(clip: Clip, places: np.ndarray, pictures: np.ndarray, person: int, limb: float) -> list[str]:
    """Paths of a person's limbs by side, the lost ones, and the head; places (P, V, 2)."""
    skeleton, seconds, hue = clip.skeleton, clip.seconds, person % len(PERSONS)
    seen, known = clip.seen[pictures, person], clip.known[pictures, person]
    sides = np.full(skeleton.num_joints, MIDDLE)
    for left, right in skeleton.mirror:
        sides[left], sides[right] = LEFT, RIGHT
    bones = np.array(skeleton.bones)
    whole, there = (joints[:, bones].all(axis=2) for joints in (seen, known))
    parts = [_path(f"person{hue} lost", places, bones, there & ~whole, seconds)]
    for side, name in SIDES.items():
        parts.append(_path(f"person{hue} {name}", places, bones, whole & (sides[bones[:, 0]] == side), seconds))
    if skeleton.has_role("head") and seen[:, head := skeleton.role("head")].all():
        parts.append(_head(f"person{hue} middle", places[:, head], 1.25 * limb, seconds))
    return [part for part in parts if part]


def _path(kind: str, places: np.ndarray, bones: np.ndarray, drawn: np.ndarray, seconds: float) -> str:
    """Some bones (B, 2) of every picture, as `drawn` (P, B) says; nothing where none ever is."""
    if not drawn.any():
        return ""
    tenths = (10 * places).round().astype(int)
    frames = []
    for corners, wanted in zip(tenths, drawn, strict=True):
        ends = corners[bones[wanted]]
        lines = (f"M{_short(x)} {_short(y)}l{_short(u - x)} {_short(v - y)}" for (x, y), (u, v) in ends)
        frames.append("".join(lines) or "M0 0")
    return f'<path class="{kind}" d="{frames[0]}">{_animate("d", frames, seconds)}</path>'


def _head(kind: str, places: np.ndarray, radius: float, seconds: float) -> str:
    across, down = ([_short(round(10 * value)) for value in places[:, axis]] for axis in (0, 1))
    moves = _animate("cx", across, seconds) + _animate("cy", down, seconds)
    return f'<circle class="head {kind}" cx="{across[0]}" cy="{down[0]}" r="{radius:.1f}">{moves}</circle>'


def _animate(attribute: str, values: list[str], seconds: float) -> str:
    if len(set(values)) == 1:
        return ""
    return (
        f'<animate attributeName="{attribute}" dur="{seconds:.2f}s" repeatCount="indefinite" '
        f'values="{";".join(values)}"/>'
    )


def _short(tenths: int) -> str:
    """A number of tenths as decimals, without a needless zero."""
    return f"{tenths / 10:g}"
