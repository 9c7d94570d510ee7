"""How a report looks: colours that colour-blind people tell apart, light and dark, on screens and on paper."""

from collections.abc import Sequence
from pathlib import Path

from skelssl.report.drawing import LEFT, MIDDLE, PERSONS, RIGHT, Colour, mixed

# Okabe and Ito (2008) without yellow and black, violet and grey added; lighter on a dark page.
LIGHT = ("#0072b2", "#d55e00", "#009e73", "#c4689b", "#d99200", "#3b9fd6", "#6b4fa0", "#6f6f6f")
DARK = ("#4aa8e8", "#ff8a4a", "#2fcfa0", "#eaa2cb", "#f5b942", "#9ad6f7", "#ab97e6", "#b5b5b5")
COLOURS = len(LIGHT)
SIDES = {LEFT: "left", MIDDLE: "middle", RIGHT: "right"}
# Outlines of marks about (0, 0), so that classes differ by more than their colour.
MARKS = (
    "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",
    "m-2.7-2.7h5.4v5.4h-5.4z",
    "m0-3.6l3.6 6.2h-7.2z",
    "m0-4l3.4 4l-3.4 4l-3.4-4z",
    "m-1.2-3.6h2.4v2.4h2.4v2.4h-2.4v2.4h-2.4v-2.4h-2.4v-2.4h2.4z",
)

PAGE = Path(__file__).with_name("page.css")
# Animations run without a script; this one stops them where the reader asks for it.
SCRIPT = """
(() => {
  const motions = document.querySelectorAll("svg.motion"), button = document.getElementById("pause");
  let still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const show = () => {
    motions.forEach(one => still ? one.pauseAnimations() : one.unpauseAnimations());
    button.textContent = still ? "Play all motions" : "Pause all motions";
  };
  button.onclick = () => { still = !still; show(); };
  button.hidden = false;
  show();
})();
"""


def stylesheet() -> str:
    """The rules of a page; on paper it is always light."""
    light = "--text:#1b2530;--soft:#5b6773;--line:#dbe1e7;--back:#fff;--tile:#f5f7f9;--quiet:#aab6c2;"
    dark = "--text:#e6ebf0;--soft:#9ca9b6;--line:#333f4b;--back:#11171e;--tile:#1a222b;--quiet:#5d6c7b;"
    light, dark = light + _numbered(LIGHT) + _persons(PERSONS), dark + _numbered(DARK) + _persons(_at_night())
    variables = f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    classes = [f".c{number}{{stroke:var(--c{number});fill:var(--c{number})}}" for number in range(COLOURS)]
    for person in range(len(PERSONS)):
        classes += [f".person{person}.{side}{{stroke:var(--p{person}{side})}}" for side in SIDES.values()]
        classes += [f".person{person}.lost{{stroke:var(--p{person}left)}}"]
        classes += [f".head.person{person}{{fill:var(--p{person}middle)}}"]
    return variables + "".join(classes) + PAGE.read_text(encoding="utf-8")


def mark(number: int) -> tuple[str, str]:
    """Class of the colour and outline of the mark of a class; pairs are different up to COLOURS times MARKS."""
    return f"c{number % COLOURS}", MARKS[number % len(MARKS)]


def _numbered(colours: Sequence[str]) -> str:
    return "".join(f"--c{number}:{colour};" for number, colour in enumerate(colours))


def _persons(persons: Sequence[tuple[Colour, Colour, Colour]]) -> str:
    return "".join(
        f"--p{person}{side}:#{bytes(colours[number]).hex()};"
        for person, colours in enumerate(persons)
        for number, side in SIDES.items()
    )


def _at_night() -> list[tuple[Colour, Colour, Colour]]:
    """The colours of persons on a dark page: all lighter, the sides as far apart as before."""
    white, black = (255, 255, 255), (0, 0, 0)
    return [
        (mixed(each[LEFT], white, 0.45), mixed(each[MIDDLE], white, 0.3), mixed(each[MIDDLE], black, 0.15))
        for each in PERSONS
    ]
