"""Skeletons as pictures: rounded limbs in orthographic projection, a colour for each person, sides by lightness."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image, ImageDraw

from skelssl.report.clip import Clip

Colour = tuple[int, int, int]

BACK: Colour = (252, 251, 248)
GROUND: Colour = (221, 217, 208)
SHADOW: Colour = (238, 235, 228)
# By person: left, middle, right. Hues of Okabe and Ito (2008), which colour-blind people tell apart; sides differ in
# lightness.
PERSONS: tuple[tuple[Colour, Colour, Colour], ...] = (
    ((92, 182, 235), (28, 119, 181), (9, 58, 104)),
    ((247, 178, 84), (213, 94, 0), (128, 46, 0)),
    ((110, 208, 178), (0, 150, 110), (0, 84, 62)),
    ((233, 172, 209), (190, 92, 155), (107, 36, 84)),
)
LEFT, MIDDLE, RIGHT = range(3)
FINER = 3  # pictures are painted so much larger and then averaged
MARGIN = 0.06  # of a panel's height, on every side
OUTLIERS = 2  # per cent of frames whose extremes may leave the picture at either end
VIEWS = {"front": (0, 1, 2, 1), "side": (2, 1, 0, -1)}  # coordinates across, upwards and away, and the last one's sign
# Columns: right, up and away in the axes of the data, by the axis that points upwards. As the Kinect's mirrored image
# shows a scene: x to the right, z away from the sensor.
AXES = {
    "y": np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    "-y": np.array([[1, 0, 0], [0, -1, 0], [0, 0, 1]]),
    "z": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]),
}


@dataclass(frozen=True)
class Projection:
    """A clip from one direction, in units of the data.

    Attributes:
        clip: what is shown.
        view: "front" or "side".
        places: (T, M, V, 2) across and upwards.
        depths: (T, M, V) away from the viewer.
        box: left, bottom, right, top of what a picture shows of all frames.
        ground: height of the floor.
    """

    clip: Clip
    view: str
    places: np.ndarray
    depths: np.ndarray
    box: tuple[float, float, float, float]
    ground: float

    @property
    def width(self) -> float:
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        return self.box[3] - self.box[1]

    def extents(self) -> tuple[np.ndarray, np.ndarray]:
        """(T, 2) lower left and upper right corner of what is seen in each frame, NaN where nothing is."""
        places = np.where(self.clip.seen[..., None], self.places, np.nan).reshape(len(self.places), -1, 2)
        empty = ~self.clip.seen.any(axis=(1, 2))
        places[empty] = 0
        low, high = np.nanmin(places, axis=1), np.nanmax(places, axis=1)
        low[empty] = high[empty] = np.nan
        return low, high


def project(clip: Clip, view: str) -> Projection:
    """A clip as seen from the "front" or from the "side".

    Raises:
        ValueError: a side view of points in the plane.
    """
    if view == "side" and clip.flat:
        raise ValueError(f"views: expected front for points in {clip.units} without depth, found side")
    across, upwards, away, sign = VIEWS[view]
    turned = clip.points @ AXES[clip.up]
    places, depths = turned[..., [across, upwards]], sign * turned[..., away]
    projection = Projection(clip, view, places, depths, (0.0, 0.0, 1.0, 1.0), 0.0)
    low, high = projection.extents()
    if clip.pinned:  # the floor has gone with the origin: whoever is there stands on the lowest joint
        rise = np.where(np.isnan(low[:, 1:]), 0, low[:, 1:]) * (0, 1)
        places, low, high = places - rise[:, None, None], low - rise, high - rise
    left, ground = np.nanpercentile(low, OUTLIERS, axis=0)
    right, top = np.nanpercentile(high, 100 - OUTLIERS, axis=0)
    tall = max(top - ground, 0.2 * (right - left), 1e-6)
    box = (float(left), float(ground - 0.02 * tall), float(right), float(top + 0.06 * tall))
    return Projection(clip, view, places, depths, box, float(ground))


def body_height(projection: Projection) -> float:
    """How tall a person stands in units of the data: what limbs' widths are measured by."""
    seen = projection.clip.seen[..., None]
    low = np.where(seen, projection.clip.points, np.inf).min(axis=2)
    high = np.where(seen, projection.clip.points, -np.inf).max(axis=2)
    sizes = (high - low).max(axis=-1)
    return float(np.percentile(sizes[np.isfinite(sizes)], 90))


class Painter:
    """Paints frames of one projection.

    Args:
        projection: what is shown.
        scale: pixels for one unit of the data.
        size: width and height of a picture in pixels.
    """

    def __init__(self, projection: Projection, scale: float, size: tuple[int, int]):
        self.projection, self.size = projection, size
        self.skeleton = projection.clip.skeleton
        self.scale = scale * FINER
        self.limb = float(np.clip(0.045 * body_height(projection) * self.scale, 2.5 * FINER, 16 * FINER))
        self.widths, self.head = self._thickness()
        self.sides = np.full(self.skeleton.num_joints, MIDDLE)
        for left, right in self.skeleton.mirror:
            self.sides[left], self.sides[right] = LEFT, RIGHT
        roles = ("left_shoulder", "right_shoulder", "right_hip", "left_hip")
        whole = all(self.skeleton.has_role(role) for role in roles)
        self.torso = [self.skeleton.role(role) for role in roles] if whole else []

    def frame(self, number: int, middle: float | None = None) -> Image.Image:
        """One frame, with the middle of the box, or what is given, in the middle of the picture."""
        width, height = (FINER * pixels for pixels in self.size)
        picture = Image.new("RGB", (width, height), BACK)
        draw = ImageDraw.Draw(picture)
        left, bottom, right, _ = self.projection.box
        centre = (left + right) / 2 if middle is None else middle
        origin = np.array([width / 2 - centre * self.scale, (1 - MARGIN) * height + bottom * self.scale])
        points = self.projection.places[number] * (self.scale, -self.scale) + origin
        self._floor(draw, points, number, origin[1] - self.projection.ground * self.scale + 0.5 * self.limb)
        for _, paint in sorted(self._shapes(draw, points, number), key=lambda shape: -shape[0]):
            paint()
        self._marks(draw, points, number)
        return picture.reduce(FINER)

    def _thickness(self) -> tuple[dict[int, float], float]:
        """Width of the bone that ends in each joint, short bones thinner, and the head's radius."""
        clip, widths = self.projection.clip, {}
        for child, parent in self.skeleton.bones:
            both = clip.seen[..., child] & clip.seen[..., parent]
            lengths = np.linalg.norm(clip.points[..., child, :] - clip.points[..., parent, :], axis=-1)[both]
            length = float(np.median(lengths)) * self.scale if both.any() else 0.0
            widths[child] = float(np.clip(0.42 * length, 0.4 * self.limb, self.limb))
        return widths, 1.25 * self.limb if self.skeleton.has_role("head") else 0.0

    def _floor(self, draw: ImageDraw.ImageDraw, points: np.ndarray, number: int, floor: float) -> None:
        """The ground line, and a shadow for everyone on it."""
        for person, seen in enumerate(self.projection.clip.seen[number]):
            if not seen.any():
                continue
            across = points[person, seen, 0]
            middle, half = float(np.median(across)), max(0.45 * float(np.ptp(across)), 2 * self.limb)
            tall = 0.35 * self.limb
            draw.ellipse([middle - half, floor - tall, middle + half, floor + tall], fill=SHADOW)
        draw.line([(0, floor), (FINER * self.size[0], floor)], fill=GROUND, width=FINER)

    def _shapes(self, draw: ImageDraw.ImageDraw, points: np.ndarray, number: int):  # type: ignore[no-untyped-def]
        """(depth, function that paints it) of every torso, bone and head of a frame."""
        for person, seen in enumerate(self.projection.clip.seen[number]):
            place, depth = points[person], self.projection.depths[number, person]
            colours = PERSONS[person % len(PERSONS)]
            if self.torso and seen[self.torso].all():
                corners, tint = [tuple(place[joint]) for joint in self.torso], mixed(colours[MIDDLE], BACK, 0.78)
                yield depth[self.torso].mean(), partial(draw.polygon, corners, fill=tint)
            for child, parent in self.skeleton.bones:
                if seen[child] and seen[parent]:
                    limb = (place[parent], place[child], colours[self.sides[child]], self.widths[child])
                    yield depth[[child, parent]].mean(), partial(_limb, draw, *limb)
            if self.head and seen[head := self.skeleton.role("head")]:
                nearest = min(depth[head], depth[[head, self.skeleton.parents[head]]].mean())
                yield nearest - 1e-9, partial(_disc, draw, place[head], self.head, colours[MIDDLE])

    def _marks(self, draw: ImageDraw.ImageDraw, points: np.ndarray, number: int) -> None:
        """Rings where joints were lost, and thin lines for the limbs that hang on them."""
        clip, radius = self.projection.clip, 0.42 * self.limb
        for person, known in enumerate(clip.known[number]):
            place, lost = points[person], known & ~clip.seen[number, person]
            colours = PERSONS[person % len(PERSONS)]
            for child, parent in self.skeleton.bones:
                if known[child] and known[parent] and (lost[child] or lost[parent]):
                    faint = mixed(colours[self.sides[child]], BACK, 0.5)
                    draw.line([tuple(place[child]), tuple(place[parent])], fill=faint, width=FINER)
            for joint in np.flatnonzero(lost):
                x, y = place[joint]
                box = [x - radius, y - radius, x + radius, y + radius]
                draw.ellipse(box, fill=BACK, outline=colours[self.sides[joint]], width=round(1.3 * FINER))


def _limb(draw: ImageDraw.ImageDraw, start: np.ndarray, end: np.ndarray, colour: Colour, width: float) -> None:
    """A rounded line with its joints as dots, and a rim of the background that lifts it off what lies behind."""
    length = float(np.hypot(*(end - start)))
    rim, trim = 0.2 * width, 0.9 * width
    if length > 2.5 * trim:
        along = (end - start) / length * trim
        draw.line([tuple(start + along), tuple(end - along)], fill=BACK, width=round(width + 2 * rim))
    draw.line([tuple(start), tuple(end)], fill=colour, width=round(width))
    for joint in (start, end):
        _disc(draw, joint, width / 2, colour)
        _disc(draw, joint, 0.2 * width, BACK)


def _disc(draw: ImageDraw.ImageDraw, centre: np.ndarray, radius: float, colour: Colour) -> None:
    x, y = centre
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)


def mixed(colour: Colour, other: Colour, share: float) -> Colour:
    """`colour` with `share` of another."""
    red, green, blue = (round((1 - share) * one + share * two) for one, two in zip(colour, other, strict=True))
    return red, green, blue
