"""Results of several runs beside each other, and beside published ones."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from skelssl.protocols.results import Result, read_results

FOLDER = Path(__file__).parent / "published"
# How sure a published number is.
SURE = {"official": "in the authors' code or its README", "later": "in a later paper's or project's table"}
KEYS = {"protocol", "stream", "variant", "k", "sure", "source", "values"}


@dataclass(frozen=True)
class Published:
    """A number of a paper or its code, in percent.

    Attributes:
        dataset, split: as in stores; the split without "_train" and "_test", "" where a set has one only.
        protocol, k: as in `Result`.
        method: with its variant, such as the encoder.
        stream: one, or several that were fused.
        value: top-1.
        source: where it was read.
        sure: a key of SURE.
    """

    dataset: str
    split: str
    protocol: str
    k: int
    method: str
    stream: str
    value: float
    source: str
    sure: str


@cache
def published() -> tuple[Published, ...]:
    """All that the library ships; numbers that could not be read anywhere are not among them.

    Raises:
        ValueError: a file of them is not as expected.
    """
    return tuple(row for path in sorted(FOLDER.glob("*.yaml")) for row in read_published(path))


def read_published(path: Path) -> Iterator[Published]:
    """The numbers of a file.

    Raises:
        ValueError: an unknown key or an unknown word for how sure it is.
    """
    data = yaml.safe_load(path.read_text())
    for number, table in enumerate(data["tables"]):
        where = f"{path}: tables[{number}]"
        if unknown := set(table) - KEYS:
            raise ValueError(f"{where}: expected the keys {', '.join(sorted(KEYS))}, found {min(unknown)!r}")
        if table.get("sure") not in SURE:
            raise ValueError(f"{where}: sure: expected one of {', '.join(SURE)}, found {table.get('sure')!r}")
        yield from _rows(data["method"], table)


def _rows(method: str, table: dict[str, Any]) -> Iterator[Published]:
    name = ", ".join(part for part in (method, table.get("variant", "")) if part)
    for dataset, values in table["values"].items():
        for split, value in values.items():
            own = (dataset, split, table["protocol"], table.get("k", 0), name, table["stream"])
            yield Published(*own, value, table["source"], table["sure"])


def compare(files: Sequence[Path], *, published: bool = True) -> str:
    """Markdown tables, one for each data set, test split, protocol and setting, best first.

    Args:
        files: results.json files, or folders with one.
        published: whether to put published numbers of the same data set, split and protocol beside them.

    Raises:
        ResultsError: a file is not one of results.
    """
    groups: dict[tuple[Any, ...], list[tuple[float, tuple[str, ...]]]] = {}
    for result in (result for file in files for result in read_results(file)):
        if result.value is not None:
            groups.setdefault(_group(result), []).append((result.value, _own(result)))
    texts = []
    for group, lines in groups.items():
        if published:
            lines = lines + [(row.value, _foreign(row)) for row in _beside(group)]
        texts.append(_markdown(group, [line for _, line in sorted(lines, key=lambda line: -line[0])]))
    return "\n\n".join(texts)


def _group(result: Result) -> tuple[Any, ...]:
    fused = result.protocol.startswith("fusion")  # all subsets of streams in one table
    setting = "" if fused or result.protocol == "linear" else result.setting
    pretrained = "" if result.pretrained_on.split(" ")[0] == result.dataset else result.pretrained_on
    return (
        *(result.dataset, result.preprocessing, result.train, result.test, pretrained, result.protocol, setting),
        *(result.level, result.k, result.epochs, result.metric),
    )


def _beside(group: tuple[Any, ...]) -> Iterable[Published]:
    """Published numbers of a group's data set, split and protocol."""
    dataset, _, _, test, pretrained, protocol, _, _, k, epochs, metric = group
    if pretrained or metric != "top-1" or epochs == "best":
        return []
    wanted = "linear" if protocol.startswith("fusion") else protocol
    split = "" if test == "test" else test.removesuffix("_test")
    return [r for r in published() if (r.dataset, r.split, r.protocol, r.k) == (dataset, split, wanted, k)]


def _own(result: Result) -> tuple[str, ...]:
    value = f"{result.value:.1f}" + ("" if result.deviation is None else f" ± {result.deviation:.1f}")
    interval = "" if result.interval is None else f"{result.interval[0]:.1f} to {result.interval[1]:.1f}"
    method = result.method if result.encoder == "trained" else f"{result.method}, untrained"
    stream = result.setting if result.protocol.startswith(("fusion", "linear")) and result.setting else result.stream
    return method, stream, value, interval, str(result.seed), f"{result.run} ({result.test_samples} samples)"


def _foreign(row: Published) -> tuple[str, ...]:
    return row.method, row.stream, f"{row.value:.1f}", "", "", f"published: {row.source}; {SURE[row.sure]}"


def _markdown(group: tuple[Any, ...], lines: Sequence[tuple[str, ...]]) -> str:
    dataset, preprocessing, train, test, pretrained, protocol, setting, level, k, epochs, metric = group
    strength = "" if level is None else f" {level:g}"
    parts = [protocol, f"{setting}{strength}", f"k = {k}" if k else "", f"{epochs} epoch" if epochs else "", metric]
    where = f"{dataset} ({preprocessing}), {train} to {test}"
    where += f", pre-trained on {pretrained}" if pretrained else ""
    header = ("method", "stream", f"{metric} %", "95 % interval", "seed", "where")
    rows = [header, ("---",) * len(header), *lines]
    title = f"**{where}: {', '.join(part for part in parts if part)}**"
    return "\n".join([title, "", *("| " + " | ".join(row) + " |" for row in rows)])
