"""The report of a run: headline, results, loss, classes, data and settings on one page that needs no network."""

import json
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from skelssl import skeletons
from skelssl.data.store import Store
from skelssl.engine.checkpoint import replace_file
from skelssl.engine.log import read_log
from skelssl.engine.pretrain import CONFIG, RUN
from skelssl.protocols.evaluate import PREDICTIONS, EvaluationError
from skelssl.protocols.results import Result, described, read_results
from skelssl.report.animation import animated_skeleton
from skelssl.report.charts import bar_chart, line_chart

STYLE = """
:root { --text: #1d2733; --soft: #66727f; --line: #d9dfe5; --back: #fff; --accent: #1769aa; --second: #b9c6d3; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e9ee; --soft: #98a5b2; --line: #36424e; --back: #12181f; --accent: #5db0ee; --second: #51606f; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 2rem auto;
  max-width: 46rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.soft, figcaption, caption { color: var(--soft); } .headline { font-size: 1.15rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .4rem; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); }
td.number { text-align: right; } th.number { text-align: right; } tr.trained td { font-weight: 600; }
svg { width: 100%; height: auto; } svg text { font-size: 11px; fill: var(--soft); }
svg .name { text-anchor: end; } svg .middle { text-anchor: middle; }
.grid { stroke: var(--line); } .line { fill: none; stroke: var(--accent); stroke-width: 2; }
.bar0 { fill: var(--second); } .bar1 { fill: var(--accent); }
.bones line { stroke: var(--accent); stroke-width: 3; stroke-linecap: round; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)); gap: .5rem; }
figure { margin: 0; text-align: center; } pre { overflow-x: auto; font-size: .85rem; }
@media print { body { margin: 0; max-width: none; } h2, table, svg { break-inside: avoid; } }
"""


@dataclass
class RunData:
    """What a run folder holds once it is evaluated."""

    config: dict[str, Any]
    record: dict[str, Any]
    log: list[dict[str, str]]
    results: list[Result]
    predictions: dict[str, np.ndarray] = field(default_factory=dict)


def read_run(run: Path) -> RunData:
    """Reads an evaluated run.

    Raises:
        EvaluationError: a file is missing or damaged.
    """
    try:
        with np.load(run / PREDICTIONS, allow_pickle=False) as arrays:
            predictions = dict(arrays)
        config = yaml.safe_load((run / CONFIG).read_text())
        record, results = json.loads((run / RUN).read_text()), read_results(run)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise EvaluationError(f"{run}: expected an evaluated run: {error}") from None
    return RunData(config, record, read_log(run), results, predictions)


def write_report(run: Path, store: Store, out: Path | None = None) -> Path:
    """Writes report.html of an evaluated run.

    Args:
        run: its folder.
        store: the data set it was evaluated on.
        out: the file; by default report.html in the run folder.
    """
    data = read_run(run)
    sections = [
        _headline(data, store),
        _section("Results", _results_table(data)),
        _section("Loss", _loss_chart(data)),
        _section("Classes", _class_chart(data, store)),
        _section("What the sequences look like", _gallery(store)),
        _section("Settings", _settings(data)),
    ]
    title = f"{data.results[0].method} on {data.results[0].dataset}"
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{''.join(sections)}</body></html>\n"
    )
    target = out or run / "report.html"
    replace_file(target, lambda partial: partial.write_text(page, encoding="utf-8"))
    return target


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def _linear(data: RunData, encoder: str) -> Result:
    """The headline's row of an encoder: last epoch, all test samples.

    Raises:
        EvaluationError: the linear protocol has not been run.
    """
    wanted = ("linear", "last", "top-1", encoder)
    for row in data.results:
        found = (row.protocol, row.epochs, row.metric, row.encoder)
        if found == wanted and not row.test.endswith("_unseen"):
            return row
    raise EvaluationError("results: expected those of the protocol linear, found none")


def _headline(data: RunData, store: Store) -> str:
    trained, untrained = (_linear(data, encoder) for encoder in ("trained", "untrained"))
    sentence = (
        f"A linear classifier on the frozen encoder recognises {trained.value:.1f} % of "
        f"{trained.test_samples} test sequences; on an untrained encoder {untrained.value:.1f} %."
    )
    details = (
        f"{len(store)} sequences, {len(store.header.class_names)} classes, preprocessing {store.header.preprocessing}, "
        f"stream {trained.stream}, seed {trained.seed}"
    )
    title = f"{trained.method.upper()} on {trained.dataset}"
    return f'<h1>{escape(title)}</h1><p class="soft">{escape(details)}</p><p class="headline">{escape(sentence)}</p>'


def _results_table(data: RunData) -> str:
    rows = []
    for result in data.results:
        gain = "" if result.gain is None else "{:+.1f} to {:+.1f}".format(*result.gain)
        value = result.note if result.value is None else f"{result.value:.1f}"
        cells = [result.test, described(result), result.encoder, result.metric]
        numbers = [str(result.test_samples), value, gain]
        rows.append(
            f'<tr class="{escape(result.encoder)}">'
            + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells)
            + "".join(f'<td class="number">{escape(number)}</td>' for number in numbers)
            + "</tr>"
        )
    initialisations = data.config["evaluation"]["initialisations"]
    caption = (
        f"Untrained: mean of {initialisations} initialisations with calibrated batch-norm statistics. "
        "Gain: 95 % interval of trained minus untrained, paired bootstrap over test sequences. The last epoch is the "
        "headline; the best one is chosen on the test sequences and only shown for comparison."
    )
    header = "<th>test</th><th>protocol</th><th>encoder</th><th>metric</th>" + "".join(
        f'<th class="number">{name}</th>' for name in ("sequences", "%", "gain")
    )
    return f"<table><caption>{caption}</caption><tr>{header}</tr>{''.join(rows)}</table>"


def _loss_chart(data: RunData) -> str:
    if not data.log:
        return ""
    epochs = [int(row["epoch"]) + 1 for row in data.log]
    return line_chart("Loss of pre-training", "epoch", "loss", epochs, [float(row["loss"]) for row in data.log])


def _class_chart(data: RunData, store: Store) -> str:
    """Linear accuracy of each class, untrained and trained."""
    labels = store.labels[store.select(_linear(data, "trained").test)]
    present = [label for label in range(len(store.header.class_names)) if (labels == label).any()]
    series = {
        name: [100 * float(data.predictions[f"{name} linear 0 last"][labels == label].mean()) for label in present]
        for name in ("untrained", "trained")
    }
    return bar_chart("Accuracy of each class in percent", [store.header.class_names[i] for i in present], series)


def _gallery(store: Store) -> str:
    """The first sequence of each class, its first person."""
    skeleton = skeletons.get(store.header.skeleton)
    figures = [
        animated_skeleton(name, store.sample(int(np.flatnonzero(store.labels == label)[0]))[:, 0, :, :3], skeleton)
        for label, name in enumerate(store.header.class_names)
        if (store.labels == label).any()
    ]
    return f'<div class="gallery">{"".join(figures)}</div>'


def _settings(data: RunData) -> str:
    record = {key: value for key, value in data.record.items() if key != "data"}
    text = yaml.safe_dump(data.config, sort_keys=False) + "\n" + yaml.safe_dump(record, sort_keys=False)
    return f"<details><summary>Recipe, versions and machine</summary><pre>{escape(text)}</pre></details>"
