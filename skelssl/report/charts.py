"""Charts as inline SVG and HTML in the page's colours; names may hold any character."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from skelssl.report.style import mark

WIDTH, HEIGHT = 340, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 30, 38
SIDE = 440  # of a map
CELL, NAMES = 34, 168  # of a matrix: a cell's side, and the room for names of classes
MOST_NAMED, MOST_MARKED = 30, 20


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: in the legend.
        x, y: at least one point; where y is NaN there is none.
        colour: class of its colour, such as "c0".
        dashed: whether it is; its dots are then hollow.
        bars: lower and upper end of a thin bar at each point, or none at all.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str = "c0"
    dashed: bool = False
    bars: Sequence[tuple[float, float]] = ()


def line_chart(
    title: str,
    x_name: str,
    lines: Sequence[Line],
    *,
    ticks: Sequence[float] = (),
    logarithmic: bool = False,
    y_range: Sequence[float] = (),
) -> str:
    """Lines over common axes.

    Args:
        title: what y is.
        x_name: what x is, with its unit.
        lines: at least one.
        ticks: on the x axis; round numbers unless given.
        logarithmic: whether x, which is then positive, is placed by its logarithm.
        y_range: values that the y axis reaches in any case, so that charts beside each other have the same.
    """
    xs = [x for line in lines for x in line.x]
    ys = [y for line in lines for y in (*line.y, *(end for bar in line.bars for end in bar), *y_range)]
    ys = [y for y in ys if math.isfinite(y)] or [0.0]
    x_ticks, y_ticks = list(ticks) or round_ticks(min(xs), max(xs), 5), round_ticks(min(ys), max(ys), 4)
    across = _scale([*xs, *x_ticks], LEFT, WIDTH - RIGHT, logarithmic)
    upwards = _scale([*ys, *y_ticks], HEIGHT - BOTTOM, TOP)
    parts = [_text(4, 14, title, "title"), _text((WIDTH + LEFT) / 2, HEIGHT - 4, x_name, "middle")]
    parts += [
        f'<path class="grid" d="M{LEFT} {upwards(y):.1f}H{WIDTH - RIGHT}"/>{_text(LEFT - 6, upwards(y) + 4, y, "end")}'
        for y in y_ticks
    ]
    parts.append(f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    last = -math.inf
    for x in x_ticks:
        if across(x) - last > 7 * len(f"{x:g}") + 4:  # names do not touch
            parts.append(_text(last := across(x), HEIGHT - BOTTOM + 15, x, "middle"))
    parts += [_drawn(line, across, upwards) for line in lines]
    return _svg(f"{title} against {x_name}: {', '.join(line.name for line in lines)}", "".join(parts), WIDTH, HEIGHT)


def round_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers that reach from at most `low` to at least `high`."""
    span = high - low if high > low else abs(high) or 1.0
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= 0.999 * rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{number * step:.10g}") for number in range(first, max(last, first + 1) + 1)]


def legend(lines: Sequence[Line]) -> str:
    """What the lines of charts mean."""
    keys = []
    for line in lines:
        kind, dot = _kinds(line)
        drawn = f'<path class="{kind}" d="M1 8H29"/><circle class="{dot}" cx="15" cy="8" r="3.4"/>'
        keys.append(f'<span><svg viewBox="0 0 30 16" aria-hidden="true">{drawn}</svg>{escape(line.name)}</span>')
    return f'<div class="legend">{"".join(keys)}</div>'


def bar_chart(names: Sequence[str], series: Mapping[str, Sequence[float]], notes: Sequence[str] = ()) -> str:
    """Horizontal bars of percentages, a group for each name; the series are called "untrained" and "trained"."""
    rows = []
    for row, name in enumerate(names):
        bars = "".join(
            f'<div class="bar"><i class="{kind}-mark" style="width:{max(values[row], 0):.1f}%"></i>'
            f"<span>{values[row]:.0f}</span></div>"
            for kind, values in series.items()
        )
        note = f' <small class="soft">{escape(notes[row])}</small>' if notes else ""
        rows.append(f"<span>{escape(name)}{note}</span><div>{bars}</div>")
    keys = "".join(f'<span><i class="{kind}-mark"></i>{escape(kind)}</span>' for kind in series)
    return f'<div class="legend">{keys}</div><div class="bars">{"".join(rows)}</div>'


def interval_bar(value: float, interval: tuple[float, float] | None) -> str:
    """A dot between 0 and 100 and its interval, for a cell of a table."""
    low, high = interval or (value, value)
    span = f'<i style="left:{low:.1f}%;width:{high - low:.1f}%"></i>'
    return f'<div class="range">{span}<b style="left:{value:.1f}%"></b></div>'


def matrix(names: Sequence[str], counts: np.ndarray) -> str:
    """Counts (rows, columns) by true class and predicted class, shaded by their share of the row."""
    total = len(names)
    cell = CELL if total <= MOST_NAMED else max(4.0, CELL * MOST_NAMED / total)
    named = total <= MOST_NAMED
    left, top = (NAMES if named else 8.0), (22.0 if named else 8.0)
    parts = []
    for row, values in enumerate(counts):
        y = top + row * cell
        if named:
            parts.append(_text(left - 8, y + cell / 2 + 4, f"{_shortened(names[row], 22)}  {row + 1}", "end name"))
            parts.append(_text(left + (row + 0.5) * cell, top - 7, row + 1, "middle"))
        for column in np.flatnonzero(values):
            share = float(values[column] / values.sum())
            x = left + column * cell
            parts.append(
                f'<rect class="cell" x="{x:.1f}" y="{y:.1f}" width="{cell:.1f}" height="{cell:.1f}" '
                f'fill-opacity="{0.04 + 0.96 * share:.2f}"/>'
            )
            if named:
                tone = "on" if share > 0.55 else "off"
                parts.append(_text(x + cell / 2, y + cell / 2 + 4, int(values[column]), f"middle {tone}"))
    side = total * cell
    parts.append(f'<rect class="frame" x="{left}" y="{top}" width="{side:.1f}" height="{side:.1f}"/>')
    wide = left + side + 8
    body = _svg("Counts of test sequences by true and predicted class", "".join(parts), wide, top + side + 8)
    return f'<div class="matrix" style="max-width:{1.25 * wide:.0f}px">{body}</div>'


def scatter(title: str, places: np.ndarray, labels: np.ndarray) -> str:
    """Points (S, 2) in the plane with the mark of their class; classes from MOST_MARKED on are dots of one kind."""
    low, high = places.min(axis=0), places.max(axis=0)
    scale = (SIDE - 24) / max(float((high - low).max()), 1e-12)
    tall = float(high[1] - low[1]) * scale
    placed = (places - (low + high) / 2) * (scale, -scale) + (SIDE / 2, 36 + tall / 2)
    groups = []
    for label in sorted(np.unique(labels).tolist(), key=lambda label: label < MOST_MARKED):
        colour, outline = mark(label) if label < MOST_MARKED else ("c7", "m-1.5 0h3v1h-3z")
        points = "".join(f"M{x:.1f} {y:.1f}{outline}" for x, y in placed[labels == label])
        groups.append(f'<path class="{colour} dot" d="{points}"/>')
    body = _svg(title, _text(10, 18, title, "title") + "".join(groups), SIDE, 48 + tall)
    return body.replace("<svg ", '<svg class="map" ', 1)


def class_legend(names: Sequence[str], labels: np.ndarray) -> str:
    """The marks of the classes that are in a map."""
    keys = []
    for label in (label for label in np.unique(labels).tolist() if label < MOST_MARKED):
        colour, outline = mark(label)
        drawn = f'<svg viewBox="0 0 16 10" aria-hidden="true"><path class="{colour} dot" d="M8 5{outline}"/></svg>'
        keys.append(f"<span>{drawn}{escape(names[label])}</span>")
    if labels.max() >= MOST_MARKED:
        keys.append(f"<span>grey: classes {MOST_MARKED + 1} to {len(names)}</span>")
    return f'<div class="legend">{"".join(keys)}</div>'


def _scale(values: Sequence[float], start: float, end: float, logarithmic: bool = False):  # type: ignore[no-untyped-def]
    """Places of values between two ends of an axis."""
    seen = [math.log(value) for value in values] if logarithmic else list(values)
    low, span = min(seen), max(seen) - min(seen) or 1.0
    return lambda value: start + ((math.log(value) if logarithmic else value) - low) / span * (end - start)


def _drawn(line: Line, across, upwards) -> str:  # type: ignore[no-untyped-def]
    points = [(across(x), upwards(y)) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
    kind, dot = _kinds(line)
    bars = "".join(
        f"M{across(x):.1f} {upwards(low):.1f}V{upwards(high):.1f}"
        for x, (low, high) in zip(line.x, line.bars, strict=False)
        if low < high
    )
    spread = f'<path class="spread {line.colour}" d="{bars}"/>' if bars else ""
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dots = "".join(f'<circle class="{dot}" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>' for x, y in points)
    return f'{spread}<path class="{kind}" d="M{path}"/>{dots if len(points) <= 24 else ""}' if points else ""


def _kinds(line: Line) -> tuple[str, str]:
    """CSS classes of a line and of its dots."""
    return (
        f"line {line.colour}{' dashed' if line.dashed else ''}",
        f"{line.colour} {'hollow' if line.dashed else 'dot'}",
    )


def _text(x: float, y: float, text: object, kind: str) -> str:
    shown = f"{text:g}" if isinstance(text, float) else str(text)
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(shown)}</text>'


def _shortened(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _svg(title: str, body: str, width: float, height: float) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )
