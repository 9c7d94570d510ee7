"""Sections of numbers: headlines, results, curves of training, few labels and damaged sequences."""

import math
from collections.abc import Callable, Sequence
from html import escape

from skelssl.protocols.context import ENCODERS
from skelssl.protocols.results import Result, described
from skelssl.report.charts import Line, bar_chart, interval_bar, legend, line_chart, round_ticks
from skelssl.report.pieces import conditions, grid, how, paragraph, per_run, where
from skelssl.report.source import RunData
from skelssl.report.style import COLOURS

CURVES = {
    "loss": "loss",
    "learning_rate": "learning rate",
    "feature_std": "spread of features, 1 is even",
    "effective_rank": "directions in use (effective rank)",
    "knn_probe": "nearest-neighbour probe, share right",
    "seconds": "seconds",
}
HEADLINES: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("Linear classifier", "linear", {"epochs": "last", "metric": "top-1", "setting": ""}),
    ("Exact linear classifier", "linear-exact", {}),
    ("Nearest neighbour", "knn", {"k": 1, "metric": "top-1"}),
    ("Retrieval, mAP", "knn", {"metric": "mAP"}),
    ("Fine-tuned", "finetune", {}),
)
COLUMNS = ("train", "test", "sequences", "protocol", "encoder", "metric", "seed")
GRAPH = "0 to 100"
NUMBERS = {"sequences", "seed", "%", "95 % interval", "gain"}
DAMAGES = {
    "joints": ("joints lost", "number of joints"),
    "frames": ("frames lost", "share of a sequence"),
    "noise": ("noise on coordinates", "standard deviation, in units of the data"),
    "turned by degrees": ("turned about the vertical axis", "degrees, to the left and to the right"),
}
WAYS = {"zeroed": "c0", "removed": "c1"}


def summary(runs: Sequence[RunData]) -> str:
    """The main numbers of every run, each with what it depends on."""
    return per_run([run.name for run in runs], [_cards(run) for run in runs])


def _cards(run: RunData) -> str:
    found = []
    for name, protocol, wanted in HEADLINES:
        trained, untrained = (run.row(protocol, encoder, **wanted) for encoder in ("trained", "untrained"))
        if trained is not None:
            found.append((name, trained, untrained))
    if not found:
        return ""
    places = {where(trained) for _, trained, _ in found}
    told = paragraph(f"{places.pop()}.", "soft") if len(places) == 1 else ""
    return told + grid("cards", [_card(*each, how if told else conditions) for each in found])


def _card(name: str, row: Result, plain: Result | None, describe: Callable[[Result], str]) -> str:
    lines = [
        describe(row),
        "" if row.interval is None else f"95 % interval {_span(row.interval)}",
        "" if plain is None else f"untrained encoder {plain.value:.1f} %",
        "" if row.gain is None else f"gain {_span(row.gain, '+')}",
    ]
    details = "".join(f"<span>{escape(line)}</span>" for line in lines if line)
    return f'<div class="card"><span class="name">{escape(name)}</span><b>{row.value:.1f} %</b>{details}</div>'


def results(runs: Sequence[RunData]) -> str:
    """Tables of all results; those of many levels, which charts show, are folded away."""
    rows = [(run.name, row) for run in runs for row in run.results]
    if not rows:
        return ""
    main = [(name, row) for name, row in rows if row.level is None and row.protocol != "robustness"]
    rest = [each for each in rows if each not in main]
    places = dict.fromkeys(f"pre-trained on {row.pretrained_on}, {row.preprocessing}" for _, row in rows)
    caption = f"P{'; '.join(places)[1:]}. " + (
        "The last epoch is the result; the best one is chosen on the test sequences and stands for comparison only. "
        "Untrained: the mean of fresh encoders with calibrated batch-norm statistics. Gain: trained minus untrained in "
        "percentage points. Intervals: 95 %, by bootstrap over test sequences."
    )
    text = _table(main, len(runs) > 1, caption) if main else ""
    if rest:
        folded = _table(rest, len(runs) > 1, "With few labels and on damaged sequences.")
        text += f"<details><summary>{len(rest)} more numbers</summary>{folded}</details>"
    return text


def _table(rows: Sequence[tuple[str, Result]], named: bool, caption: str) -> str:
    heads = [*(["run"] if named else []), *COLUMNS, "%", GRAPH, "95 % interval", "gain"]
    kinds = ["number" if head in NUMBERS else "graph" if head == GRAPH else "" for head in heads]
    text = "".join(f'<th class="{kind}">{head}</th>' for kind, head in zip(kinds, heads, strict=True))
    lines = "".join(f'<tr class="{escape(row.encoder)}">{_cells(name, row, named)}</tr>' for name, row in rows)
    table = f"<table><thead><tr>{text}</tr></thead><tbody>{lines}</tbody></table>"
    return paragraph(caption, "soft") + f'<div class="scroll">{table}</div>'


def _cells(name: str, row: Result, named: bool) -> str:
    texts = [*([name] if named else []), *line_of(row)]
    places = [*([""] if named else []), "", "", "number", "", "", "", "number"]
    cells = [f'<td class="{kind}">{escape(text)}</td>' for text, kind in zip(texts[: len(places)], places, strict=True)]
    graph = "" if row.value is None else interval_bar(row.value, row.interval)
    kinds = ("" if row.value is None else "number value", "number", "number")
    value, found, gain = (
        f'<td class="{kind}">{escape(text)}</td>' for kind, text in zip(kinds, texts[len(places) :], strict=True)
    )
    return f'{"".join(cells)}{value}<td class="graph">{graph}</td>{found}{gain}'


def line_of(row: Result) -> tuple[str, ...]:
    """A result as text: COLUMNS, value, interval and gain."""
    value = row.note or "-" if row.value is None else f"{row.value:.1f}"
    if row.value is not None and row.deviation is not None:
        value += f" ± {row.deviation:.1f}"
    there = "" if row.pretrained_on.split(" ")[0] == row.dataset else f"{row.dataset} "  # transfer
    own = (
        there + row.train,
        there + row.test,
        str(row.test_samples),
        described(row),
        row.encoder,
        row.metric,
        str(row.seed),
    )
    return *own, value, _span(row.interval), _span(row.gain, "+")


def _span(interval: tuple[float, float] | None, sign: str = "") -> str:
    return "" if interval is None else f"{interval[0]:{sign}.1f} to {interval[1]:{sign}.1f}"


def curves(runs: Sequence[RunData]) -> str:
    """What the logs hold, a chart for each quantity and a line for each run; of one run also the parts of the loss."""
    logged = [run for run in runs if run.log]
    if not logged:
        return ""
    names = list(dict.fromkeys(name for run in logged for row in run.log for name in row))
    epochs = [row["epoch"] + 1 for run in logged for row in run.log]
    ticks = [tick for tick in round_ticks(min(epochs), max(epochs), 5) if tick.is_integer() and tick <= max(epochs)]
    charts = []
    for name, title in CURVES.items():
        several = len(logged) > 1
        lines = [
            _curve(run, name, f"c{number % COLOURS}", run.name if several else name)
            for number, run in enumerate(logged)
        ]
        parts = [each for each in _parts(names) if name == "loss" and not several]
        lines += [_curve(logged[0], part, f"c{number % COLOURS}", part) for number, part in enumerate(parts, start=1)]
        drawn = [line for line in lines if any(map(math.isfinite, line.y))]
        if drawn:
            key = legend(drawn) if len(drawn) > 1 else ""
            charts.append(f"<figure>{line_chart(title, 'epoch', drawn, ticks=ticks)}{key}</figure>")
    told = [f"{run.name}: {len(run.log)} epochs on {_split(run)}, seed {_seed(run)}" for run in logged]
    return paragraph("; ".join(told) + ".", "soft") + grid("charts", charts)


def _parts(names: Sequence[str]) -> list[str]:
    """Columns between the loss and the learning rate."""
    end = names.index("learning_rate") if "learning_rate" in names else len(names)
    return [name for name in names[:end] if name not in ("epoch", "loss")]


def _curve(run: RunData, name: str, colour: str, title: str) -> Line:
    epochs = [row["epoch"] + 1 for row in run.log]
    return Line(title, epochs, [row.get(name, math.nan) for row in run.log], colour)


def _split(run: RunData) -> str:
    return f"{run.config['dataset']} {run.config['training'].get('split', 'train')}"


def _seed(run: RunData) -> object:
    return run.config["training"].get("seed", 0)


def few_labels(runs: Sequence[RunData]) -> str:
    """Accuracy against the share of labels, frozen and fine-tuned, with standard deviations over subsets."""
    return per_run([run.name for run in runs], [_few_labels(run) for run in runs])


def _few_labels(run: RunData) -> str:
    lines, shown = [], []
    for protocol, colour, name in (("semi", "c0", "frozen"), ("semi-finetune", "c1", "fine-tuned")):
        for encoder in ("trained", "untrained"):
            rows = [row for row in _levels(run, protocol) if row.encoder == encoder]
            if rows:
                lines.append(_line(f"{name}, {encoder}", rows, colour, encoder == "untrained"))
                shown.append(rows[0])
    if not lines:
        return ""
    levels = sorted({x for line in lines for x in line.x})
    chart = line_chart("top-1 in %", "labelled % of the training split", lines, ticks=levels, logarithmic=True)
    note = f"{conditions(shown[0])}; bars: standard deviation over {shown[0].repeats} subsets."
    return paragraph(note, "soft") + legend(lines) + grid("charts", [f"<figure>{chart}</figure>"])


def robustness(runs: Sequence[RunData]) -> str:
    """Accuracy against the strength of every damage, and without each part of the body."""
    return per_run([run.name for run in runs], [_robustness(run) for run in runs])


def _robustness(run: RunData) -> str:
    rows = [row for row in run.results if row.protocol == "robustness" and not row.test.endswith("_unseen")]
    valued = [row for row in rows if row.value is not None]
    if not valued:
        return ""
    kinds = list(dict.fromkeys(_kind(row) for row in valued if row.level is not None))
    drawn = {kind: _damage_lines(run, [row for row in valued if _kind(row) == kind]) for kind in kinds}
    y_range = [end for lines in drawn.values() for line in lines for bar in line.bars for end in bar]
    charts = [_damage_chart(kind, lines, y_range) for kind, lines in drawn.items()]
    keys = [Line("zeroed or changed", [0], [0], "c0"), Line("removed", [0], [0], "c1")]
    keys += [Line(f"{line.name}, untrained encoder", line.x, line.y, line.colour, True) for line in keys]
    note = (
        f"{conditions(valued[0])}. The classifier has learnt on whole sequences; bars: standard deviation over draws. "
        "Strength 0 is the linear result."
    )
    parts = [row for row in valued if row.level is None]
    impossible: dict[str, list[str]] = {}  # settings, by the reason
    for row in rows:
        if row.value is None and row.setting not in impossible.setdefault(row.note, []):
            impossible[row.note].append(row.setting)
    return (
        paragraph(note, "soft")
        + (legend(keys) + grid("charts", charts) if charts else "")
        + _lost_parts(parts)
        + "".join(paragraph(f"{', '.join(each)}: {why}", "missing") for why, each in impossible.items())
    )


def _kind(row: Result) -> str:
    """A setting without the way in which joints or frames are lost."""
    words = row.setting.split(" ")
    return " ".join(words[:-1]) if words[-1] in WAYS else row.setting


def _damage_lines(run: RunData, rows: Sequence[Result]) -> list[Line]:
    """A line for each encoder and each way of losing, from the linear result on."""
    lines = []
    for setting in dict.fromkeys(row.setting for row in rows):
        colour = WAYS.get(setting.split(" ")[-1], "c0")
        for encoder in ("trained", "untrained"):
            whole = run.row("linear", encoder, epochs="last", metric="top-1", setting="")
            own = [row for row in rows if (row.setting, row.encoder) == (setting, encoder)]
            if own:
                lines.append(_line(f"{setting}, {encoder}", own, colour, encoder == "untrained", whole))
    return lines


def _damage_chart(kind: str, lines: Sequence[Line], y_range: Sequence[float]) -> str:
    what, x_name = DAMAGES.get(kind, (kind, "level"))
    ticks = sorted({x for line in lines for x in line.x})
    return f"<figure>{line_chart(f'{what}, top-1 in %', x_name, lines, ticks=ticks, y_range=y_range)}</figure>"


def _lost_parts(rows: Sequence[Result]) -> str:
    settings = list(dict.fromkeys(row.setting for row in rows))
    values = {(row.setting, row.encoder): row.value for row in rows}
    whole = [setting for setting in settings if all((setting, encoder) in values for encoder in ENCODERS)]
    if not whole:
        return ""
    series = {encoder: [values[setting, encoder] or 0.0 for setting in whole] for encoder in ENCODERS}
    return "<h3>Without a part of the body, top-1 in %</h3>" + bar_chart(whole, series)


def _levels(run: RunData, protocol: str) -> list[Result]:
    rows = (row for row in run.results if row.protocol == protocol and not row.test.endswith("_unseen"))
    return [row for row in rows if row.value is not None and row.level is not None]


def _line(name: str, rows: Sequence[Result], colour: str, dashed: bool, start: Result | None = None) -> Line:
    """A line through results by level, from `start` at level 0."""
    ordered = sorted(rows, key=lambda row: row.level or 0.0)
    points = [(row.level or 0.0, row.value or 0.0, _bar(row)) for row in ordered]
    if start is not None and start.value is not None:
        points.insert(0, (0.0, start.value, (start.value, start.value)))
    x, y, bars = zip(*points, strict=True)
    return Line(name, x, y, colour, dashed, bars)


def _bar(row: Result) -> tuple[float, float]:
    """A standard deviation below and above a percentage."""
    value, deviation = row.value or 0.0, row.deviation or 0.0
    return max(value - deviation, 0.0), min(value + deviation, 100.0)
