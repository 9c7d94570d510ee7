"""Clips as files: an animation at their own speed (GIF), or key frames in a row (PNG)."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from skelssl.engine.checkpoint import replace_file
from skelssl.report.clip import Clip
from skelssl.report.drawing import (
    BACK,
    GROUND,
    LEFT,
    MARGIN,
    PERSONS,
    RIGHT,
    VIEWS,
    Colour,
    Painter,
    Projection,
    project,
)

INK: Colour = (38, 44, 52)
SOFT: Colour = (118, 123, 130)
EDGE = 24  # pixels around everything
TITLE, TEXT = 24, 14  # sizes of letters in pixels
HEADER = 84
LINE = 26  # a line of text with its distance
TALL = {"gif": 380, "png": 330}  # height of a panel in pixels
WIDEST = 1.7  # of a panel, in its height
NARROWEST = 0.62
LEAST_WIDTH = 480  # of an animation, in pixels
MOST_FRAMES = 600
FASTEST = 50  # frames per second that viewers show
COLOURS = 128


def write_film(clips: Sequence[Clip], out: Path, *, views: Sequence[str] = ("front",), key_frames: int = 8) -> None:
    """Writes one clip, or several side by side, seen from one direction or two.

    Args:
        clips: at the same scale where they have the same units and are near in size.
        out: an animation where it ends in .gif, key frames in a row where it ends in .png.
        views: of "front" and "side".
        key_frames: of a .png, from the first frame to the last.

    Raises:
        ValueError: another ending, another view, or less than one key frame.
    """
    if out.suffix not in (".gif", ".png"):
        raise ValueError(f"out: expected a file that ends in .gif or .png, found {out.name!r}")
    if not views or any(view not in VIEWS for view in views):
        raise ValueError(f"views: expected {' or '.join(VIEWS)}, or both, found {', '.join(views) or 'none'}")
    if not 1 <= key_frames <= 50:
        raise ValueError(f"frames: expected 1 to 50 key frames, found {key_frames}")
    projections = [project(clip, view) for clip in clips for view in views]
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".png":
        picture = _strip(projections, key_frames)
        replace_file(out, lambda partial: picture.save(partial, format="PNG", optimize=True))
    else:
        replace_file(out, lambda partial: _animate(projections, partial))


def frame_times(clips: Sequence[Clip]) -> tuple[np.ndarray, list[int]]:
    """Times in seconds of an animation's frames, and for how many milliseconds each is shown.

    GIF counts in hundredths of a second: frames last three or four of them, so that the whole has the true length.
    """
    rate = max(clip.rate for clip in clips)
    count = max(1, round(rate * max(clip.seconds for clip in clips)))
    starts = np.arange(0, count, max(math.ceil(count / MOST_FRAMES), math.ceil(rate / FASTEST)))
    ends = np.round(100 * np.append(starts[1:], count) / rate).astype(int)
    shortest = 100 // FASTEST  # where the last one would be shorter
    return starts / rate, [10 * max(int(duration), shortest) for duration in np.diff(ends, prepend=0)]


def frame_at(clip: Clip, seconds: float) -> int:
    """The frame that a clip shows at a time; it stays at its last one."""
    return min(int(seconds * clip.rate + 1e-6), len(clip.points) - 1)


def _animate(projections: Sequence[Projection], out: Path) -> None:
    times, durations = frame_times([projection.clip for projection in projections])
    scales, sizes = _panels(projections, TALL["gif"])
    painters = list(map(Painter, projections, scales, sizes))
    taken = sum(size[0] for size in sizes)
    width = max(taken + 2 * EDGE, LEAST_WIDTH)
    still = Image.new("RGB", (width, HEADER + LINE + TALL["gif"] + 2 * LINE), BACK)
    _write_header(still, projections)
    lefts = [(width - taken) // 2 + sum(size[0] for size in sizes[:place]) for place in range(len(sizes))]
    for left, size, name in zip(lefts, sizes, _labels(projections), strict=True):
        text = _fitting(name, _font(TEXT), size[0] - 16)
        ImageDraw.Draw(still).text((left + 8, HEADER), text, fill=SOFT, font=_font(TEXT))

    def pictures() -> Iterator[Image.Image]:
        for time in times:
            picture = still.copy()
            for painter, left in zip(painters, lefts, strict=True):
                picture.paste(painter.frame(frame_at(painter.projection.clip, float(time))), (left, HEADER + LINE))
            _write_clock(picture, projections[0].clip, float(time), float(times[-1]))
            yield picture

    palette = _palette(still, painters)
    frames = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures())
    first = next(frames)
    first.save(
        out, format="GIF", save_all=True, append_images=frames, duration=durations, loop=0, optimize=False, disposal=1
    )


def _strip(projections: Sequence[Projection], key_frames: int) -> Image.Image:
    """A row for every projection; each frame stands in the middle of its own column."""
    numbers = [
        np.unique(np.linspace(0, len(one.clip.points) - 1, key_frames).round().astype(int)) for one in projections
    ]
    tall, columns = TALL["png"], max(map(len, numbers))
    boxes = [_frame_boxes(one, chosen) for one, chosen in zip(projections, numbers, strict=True)]
    scales = _scales(projections, [width for _, width in boxes], tall)
    widest = max(scale * width for scale, (_, width) in zip(scales, boxes, strict=True))
    column = round(max(NARROWEST * tall, widest + 3 * MARGIN * tall))
    row = LINE + tall + LINE
    picture = Image.new("RGB", (column * columns + 2 * EDGE, HEADER + row * len(projections) + EDGE // 2), BACK)
    _write_header(picture, projections)
    draw = ImageDraw.Draw(picture)
    for place, (one, name) in enumerate(zip(projections, _labels(projections), strict=True)):
        top = HEADER + place * row
        draw.text((EDGE, top), name, fill=SOFT, font=_font(TEXT))
        painter = Painter(one, scales[place], (column, tall))
        for position, number in enumerate(numbers[place]):
            left = EDGE + position * column
            picture.paste(painter.frame(int(number), float(boxes[place][0][position])), (left, top + LINE))
            text = f"{number / one.clip.rate:.2f} s"
            draw.text((left + column / 2, top + LINE + tall + 2), text, fill=SOFT, font=_font(TEXT), anchor="ma")
    return picture


def _frame_boxes(projection: Projection, numbers: np.ndarray) -> tuple[np.ndarray, float]:
    """The middle of what is seen in each frame, and the width of the widest one."""
    low, high = (ends[numbers, 0] for ends in projection.extents())
    middles = np.where(np.isnan(low), (projection.box[0] + projection.box[2]) / 2, (low + high) / 2)
    return middles, float(np.nanmax(high - low, initial=0))


def _panels(projections: Sequence[Projection], tall: int) -> tuple[list[float], list[tuple[int, int]]]:
    """Pixels for one unit, and the size of each panel."""
    scales = _scales(projections, [one.width for one in projections], tall)
    widths = [
        round(max(NARROWEST * tall, one.width * scale + 4 * MARGIN * tall))
        for one, scale in zip(projections, scales, strict=True)
    ]
    return scales, [(width, tall) for width in widths]


def _scales(projections: Sequence[Projection], widths: Sequence[float], tall: int) -> list[float]:
    """Pixels for one unit, the same for all where that leaves none of them tiny."""
    inner = (1 - 2 * MARGIN) * tall
    scales = [
        min(inner / one.height, WIDEST * tall / max(width, 1e-9))
        for one, width in zip(projections, widths, strict=True)
    ]
    same = len({one.clip.units for one in projections}) == 1 and min(scales) > 0.4 * max(scales)
    return [min(scales)] * len(scales) if same else scales


def _labels(projections: Sequence[Projection]) -> list[str]:
    several = len({one.view for one in projections}) > 1
    return [" · ".join(filter(None, (one.clip.label, one.view if several else ""))) for one in projections]


def _write_header(picture: Image.Image, projections: Sequence[Projection]) -> None:
    """Class, where the sample comes from, and which colour is whose side."""
    clip, draw = projections[0].clip, ImageDraw.Draw(picture)
    room = picture.width - 2 * EDGE
    title, *details = filter(None, (clip.title, *clip.details))
    title = " / ".join(dict.fromkeys([title, *(one.clip.title for one in projections if one.clip.title)]))
    details.append(f"{len(clip.points)} frames, {clip.seconds:.1f} s")
    free = room - _write_legend(draw, projections, picture.width - EDGE)
    draw.text((EDGE, 14), _fitting(title, _font(TITLE), free), fill=INK, font=_font(TITLE))
    draw.text((EDGE, 48), _fitting(" · ".join(details), _font(TEXT), room), fill=SOFT, font=_font(TEXT))


def _write_legend(draw: ImageDraw.ImageDraw, projections: Sequence[Projection], right: int) -> int:
    """Every person's colours of both sides, up to the right edge; returns how much room it takes."""
    if not any(one.clip.skeleton.mirror for one in projections):
        return 0
    persons = min(max(int(np.argwhere(one.clip.seen)[:, 1].max()) + 1 for one in projections), len(PERSONS))
    dot, step, word, top = 11, 14, 44, 23
    taken = 2 * (persons * step + word)
    x = right - taken
    for side, name in ((LEFT, "left"), (RIGHT, "right")):
        for colours in PERSONS[:persons]:
            draw.ellipse([x, top, x + dot, top + dot], fill=colours[side])
            x += step
        draw.text((x + 3, top - 3), name, fill=SOFT, font=_font(TEXT))
        x += word
    return taken + EDGE


def _write_clock(picture: Image.Image, clip: Clip, time: float, last: float) -> None:
    draw, y = ImageDraw.Draw(picture), picture.height - LINE - 6
    right = picture.width - EDGE
    draw.line([(EDGE, y), (right, y)], fill=GROUND, width=3)
    share = time / last if last > 0 else 1.0
    draw.line([(EDGE, y), (EDGE + share * (right - EDGE), y)], fill=SOFT, width=3)
    text = f"{time:.2f} s · frame {frame_at(clip, time)}"
    draw.text((EDGE, y + 8), text, fill=SOFT, font=_font(TEXT))


def _palette(still: Image.Image, painters: Sequence[Painter]) -> Image.Image:
    """Of all colours in the header and in a frame of every panel."""
    frames = [painter.frame(len(painter.projection.places) // 2) for painter in painters]
    sample = Image.new("RGB", (still.width, still.height + TALL["gif"] * len(frames)), BACK)
    sample.paste(still, (0, 0))
    for place, frame in enumerate(frames):
        sample.paste(frame, (0, still.height + place * TALL["gif"]))
    return sample.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> str:
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(f"{text}…") > room:
        text = text[:-1]
    return f"{text}…"
