"""The report of runs: one page that needs no network, and beside it Markdown and CSV."""

import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path

import yaml

from skelssl.engine.checkpoint import replace_file
from skelssl.report.classes import class_bars, confusions
from skelssl.report.features import Features, features_of, maps, retrievals
from skelssl.report.motions import augmentations, sequences
from skelssl.report.numbers import curves, few_labels, results, robustness, summary
from skelssl.report.pieces import section
from skelssl.report.source import RunData, read_runs
from skelssl.report.style import SCRIPT, stylesheet
from skelssl.report.tables import long_table, markdown

Section = tuple[str, str, str, str]
"""Name, title, HTML, and the command that gives what it shows where the HTML is empty."""


def write_report(
    runs: Sequence[Path], out: Path | None = None, *, results: Path | None = None, data: Path | None = None
) -> list[Path]:
    """Writes report.html, report.md and report.csv.

    Args:
        runs: folders of finished runs.
        out: the page, `x.html`; the other two lie beside it. By default report.html in the folder of a single run.
        results: where results are, see `skelssl.report.source.read_runs`.
        data: store of all runs; by default the one that each was pre-trained on, if it is still there.

    Returns:
        The three files.

    Raises:
        EvaluationError: a folder holds no run, or a file is damaged.
        ResultsError: results are not as expected.
        StoreError: there is no such store.
        ValueError: `out` is no .html file, or is missing for several runs.
    """
    if out is None and len(runs) > 1:
        raise ValueError("out: expected an .html file for the report of several runs, found none")
    page = runs[0] / "report.html" if out is None and runs else out or Path("report.html")
    if page.suffix != ".html":
        raise ValueError(f"out: expected a file that ends in .html, found {str(page)!r}")
    found = read_runs(runs, results, data)
    title = " and ".join(dict.fromkeys(run.title for run in found))
    sections = _sections(found)
    missing = [(name, command) for _, name, body, command in sections if not body]
    texts = {
        page: _page(title, found, sections),
        page.with_suffix(".md"): markdown(title, found, missing),
        page.with_suffix(".csv"): long_table(found),
    }
    page.parent.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        replace_file(path, lambda partial, text=text: partial.write_text(text, encoding="utf-8"))  # type: ignore[misc]
    return list(texts)


def _sections(runs: Sequence[RunData]) -> list[Section]:
    """All sections in the order of the page."""
    features: list[Features] = [each for each in map(features_of, runs) if each is not None]
    names = " ".join(shlex.quote(str(run.path)) for run in runs)
    evaluated = f"skelssl evaluate {names} --protocols"
    linear, shown = f"{evaluated} linear,knn", f"skelssl report {names} --data STORE"
    mapped = shown if runs[0].splits else linear
    return [
        ("summary", "Main numbers", summary(runs), linear),
        ("results", "Results", results(runs), linear),
        ("training", "Pre-training", curves(runs), "skelssl pretrain RECIPE --data STORE --out RUN"),
        ("few-labels", "Few labels", few_labels(runs), f"{evaluated} semi"),
        ("robustness", "Damaged sequences", robustness(runs), f"{evaluated} linear,robustness"),
        ("classes", "Accuracy by class", class_bars(runs), linear),
        ("confusion", "Confusion", confusions(runs), linear),
        ("features", "Features in the plane", maps(features), mapped),
        ("neighbours", "Nearest neighbours", retrievals(features), mapped),
        ("augmentations", "Augmentations", augmentations(runs), shown),
        ("data", "The data set", sequences(runs), shown),
        ("settings", "Settings", _settings(runs), ""),
    ]


def _page(title: str, runs: Sequence[RunData], sections: Sequence[Section]) -> str:
    there = [(name, heading, body) for name, heading, body, _ in sections if body]
    links = "".join(f'<a href="#{name}">{escape(heading)}</a>' for name, heading, _ in there)
    pause = '<button id="pause" type="button" hidden></button>'
    body = "".join(section(*each) for each in there)
    script = f"<script>{SCRIPT}</script>" if '<svg class="motion"' in body else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{stylesheet()}</style></head><body>"
        f'<h1>{escape(title)}</h1><p class="soft">{escape(_subtitle(runs))}</p><nav>{links}</nav>{pause}'
        f"{body}{_missing(sections)}{script}</body></html>\n"
    )


def _subtitle(runs: Sequence[RunData]) -> str:
    seeds = sorted({str(run.config["training"].get("seed", 0)) for run in runs})
    made = sorted({str(run.record.get("commit", "unknown"))[:12] for run in runs})
    return (
        f"{', '.join(run.name for run in runs)}; preprocessing "
        f"{', '.join(dict.fromkeys(str(run.config.get('preprocessing')) for run in runs))}; "
        f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}; trained with skelssl at commit {', '.join(made)}"
    )


def _missing(sections: Sequence[Section]) -> str:
    lines = "".join(
        f"<li>{escape(heading)}: <code>{escape(command)}</code></li>"
        for _, heading, body, command in sections
        if not body
    )
    return f'<section class="missing"><h2>Not in this report</h2><ul>{lines}</ul></section>' if lines else ""


def _settings(runs: Sequence[RunData]) -> str:
    """Recipe, versions and machine of every run."""
    parts = []
    for run in runs:
        text = yaml.safe_dump(run.config, sort_keys=False) + "\n" + yaml.safe_dump(run.record, sort_keys=False)
        name = f"{escape(run.name)}: recipe, versions, machine"
        parts.append(f"<details><summary>{name}</summary><pre>{escape(text)}</pre></details>")
    return "".join(parts)
