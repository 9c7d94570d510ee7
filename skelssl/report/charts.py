"""Charts as inline SVG, in the page's own colours."""

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 40


def line_chart(title: str, x_name: str, y_name: str, x: Sequence[float], y: Sequence[float]) -> str:
    """A line through (x, y) with axes; both are at least one value long."""
    low, high = min(y), max(y)
    span, length = high - low or 1.0, x[-1] - x[0] or 1.0

    def place(a: float, b: float) -> tuple[float, float]:
        across = LEFT + (a - x[0]) / length * (WIDTH - LEFT - RIGHT)
        return across, TOP + (high - b) / span * (HEIGHT - TOP - BOTTOM)

    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in map(place, x, y))
    ticks = [_y_tick(low + share * span, place(x[0], low + share * span)[1]) for share in (0, 0.25, 0.5, 0.75, 1)]
    ticks += [_x_tick(x[0] + share * length, place(x[0] + share * length, low)[0]) for share in (0, 0.5, 1)]
    body = f'{"".join(ticks)}<polyline class="line" points="{points}"/>'
    return _svg(title, f"{y_name} against {x_name}, from {y[0]:.4g} to {y[-1]:.4g}", body + _names(x_name, y_name))


def bar_chart(title: str, names: Sequence[str], series: Mapping[str, Sequence[float]]) -> str:
    """Horizontal bars of percentages, one group for each name and one bar for each series in it."""
    thick, gap, left = 12, 10, 150
    group = thick * len(series) + gap
    height = TOP + group * len(names) + 30
    scale = (WIDTH - left - 60) / 100
    parts = []
    for row, name in enumerate(names):
        top = TOP + row * group
        middle = top + thick * len(series) / 2 + 4
        parts.append(f'<text x="{left - 8}" y="{middle:.0f}" class="name">{escape(name)}</text>')
        for number, values in enumerate(series.values()):
            y, length = top + number * thick, values[row] * scale
            parts.append(f'<rect class="bar{number}" x="{left}" y="{y}" width="{length:.1f}" height="{thick - 2}"/>')
            parts.append(f'<text x="{left + length + 4:.1f}" y="{y + thick - 3}">{values[row]:.0f}</text>')
    for number, name in enumerate(series):
        x = left + 140 * number
        parts.append(f'<rect class="bar{number}" x="{x}" y="{height - 20}" width="10" height="10"/>')
        parts.append(f'<text x="{x + 14}" y="{height - 11}">{escape(name)}</text>')
    return _svg(title, f"percentages of {', '.join(series)} for {', '.join(names)}", "".join(parts), height)


def _y_tick(value: float, y: float) -> str:
    grid = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{grid}<text class="name" x="{LEFT - 6}" y="{y + 4:.1f}">{value:.4g}</text>'


def _x_tick(value: float, x: float) -> str:
    return f'<text class="middle" x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}">{value:.4g}</text>'


def _names(x_name: str, y_name: str) -> str:
    across = f'<text class="middle" x="{(WIDTH + LEFT) / 2}" y="{HEIGHT - 6}">{escape(x_name)}</text>'
    return f'{across}<text x="4" y="{TOP - 4}">{escape(y_name)}</text>'


def _svg(title: str, description: str, body: str, height: float = HEIGHT) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img"><title>{escape(title)}</title>'
        f"<desc>{escape(description)}</desc>{body}</svg>"
    )
