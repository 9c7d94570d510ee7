"""A report without pictures: Markdown to read, CSV to compute with."""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence

from skelssl.protocols.results import Result
from skelssl.report.classes import class_accuracies, confused_pairs
from skelssl.report.numbers import COLUMNS, line_of
from skelssl.report.source import RunData


def markdown(title: str, runs: Sequence[RunData], missing: Sequence[tuple[str, str]]) -> str:
    """Results, classes and confusions as tables, then what is missing and the command for it."""
    parts = [f"# {_plain(title)}"]
    for run in runs:
        parts += [f"## {_plain(run.name)}", *_results(run), *_classes(run)]
    if missing:
        lines = [f"- {what}: `{command}`" if command else f"- {what}" for what, command in missing]
        parts += ["## Not in this report", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _results(run: RunData) -> list[str]:
    if not run.results:
        return []
    numbers = [place for place, name in enumerate(COLUMNS) if name in ("sequences", "seed")]
    header = (*COLUMNS, "%", "95 % interval", "gain")
    return [_table(header, [line_of(row) for row in run.results], {*numbers, *range(len(COLUMNS), len(header))})]


def _classes(run: RunData) -> list[str]:
    rows = [(name, str(count), f"{a:.1f}", f"{b:.1f}") for name, count, a, b in class_accuracies(run)]
    pairs = [(true, other, f"{count} of {total}") for true, other, count, total in confused_pairs(run)]
    parts = []
    if rows:
        header = ("class", "test sequences", "untrained %", "trained %")
        parts += ["Linear accuracy of each class, last epoch:", _table(header, rows, {1, 2, 3})]
    if pairs:
        parts += ["Most often taken for another:", _table(("class", "taken for", "sequences"), pairs, {2})]
    return parts


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: set[int]) -> str:
    rules = ["---:" if place in numbers else "---" for place in range(len(header))]
    return "\n".join(f"| {' | '.join(map(_plain, row))} |" for row in (header, rules, *rows))


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def long_table(runs: Sequence[RunData]) -> str:
    """Every result on a line, with all fields of `skelssl.protocols.results.Result`, as CSV."""
    split = ("interval", "gain")
    names = [field.name for field in dataclasses.fields(Result) if field.name not in split]
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*names, *(f"{name}_{end}" for name in split for end in ("low", "high"))])
    for row in (row for run in runs for row in run.results):
        values = [getattr(row, name) for name in names]
        values = [json.dumps(value) if isinstance(value, dict) else value for value in values]
        ends = [end for name in split for end in (getattr(row, name) or ("", ""))]
        table.writerow(["" if value is None else value for value in [*values, *ends]])
    return text.getvalue()
