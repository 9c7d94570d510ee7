"""Numbers with everything that they depend on, their file, and their table."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from skelssl.engine.checkpoint import replace_file

RESULTS = "results.json"
SCHEMA = 1


class ResultsError(ValueError):
    """A file of results is not as expected."""


@dataclass(frozen=True)
class Result:
    """One number with everything it depends on.

    Attributes:
        dataset, preprocessing: that classifiers are trained and tested on.
        pretrained_on: data set and split of pre-training.
        method: such as "pstl", or "pstl, official".
        stream: what clips show.
        train, test: splits of labelled samples; `test_samples` of the latter.
        protocol: such as "linear"; `setting` and `level` say more, such as the damage and how strong it is.
        k: neighbours of kNN, 0 elsewhere.
        encoder: "trained", or "untrained" for the mean over several initialisations.
        seed: of the run; `repeats` is over how many subsets, damages or initialisations `value` is the mean.
        epochs: "last", the headline, or "best" on the test samples; "" where nothing is trained by epochs.
        metric: "top-1", "top-5" or "mAP".
        value: in percent; None where it cannot be, which `note` explains.
        deviation: standard deviation over repeats.
        interval: 95 % interval of `value`, by bootstrap over test samples.
        gain: 95 % interval of trained minus untrained in percentage points, on the trained encoder's row.
        run: folder of the run.
        commit, versions: of the code that evaluated it.
    """

    dataset: str
    preprocessing: str
    pretrained_on: str
    method: str
    stream: str
    train: str
    test: str
    test_samples: int
    protocol: str
    encoder: str
    seed: int
    value: float | None
    setting: str = ""
    level: float | None = None
    k: int = 0
    repeats: int = 1
    epochs: str = ""
    metric: str = "top-1"
    deviation: float | None = None
    interval: tuple[float, float] | None = None
    gain: tuple[float, float] | None = None
    note: str = ""
    run: str = ""
    commit: str = ""
    versions: dict[str, str] = field(default_factory=dict)


def write_results(folder: Path, results: Sequence[Result]) -> Path:
    """Writes results.json."""
    content = {"schema": SCHEMA, "results": [dataclasses.asdict(result) for result in results]}
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, allow_nan=False)
    replace_file(folder / RESULTS, lambda partial: partial.write_text(text))
    return folder / RESULTS


def read_results(path: Path) -> list[Result]:
    """The results of a file, or of the results.json of a folder.

    Raises:
        ResultsError: no such file, another schema, or a row with a missing, unknown or ill-typed key.
    """
    path = path / RESULTS if path.is_dir() else path
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise ResultsError(f"{path}: expected results of `skelssl evaluate`, found no file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ResultsError(f"{path}: cannot be read: {error}") from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise ResultsError(f"{path}: schema: expected {SCHEMA}, found {schema!r}")
    rows = content.get("results")
    if not isinstance(rows, list):
        raise ResultsError(f"{path}: results: expected a list, found {type(rows).__name__}")
    return [_checked(f"{path}: results[{number}]", row) for number, row in enumerate(rows)]


def _checked(where: str, row: Any) -> Result:
    if not isinstance(row, dict):
        raise ResultsError(f"{where}: expected keys and values, found {type(row).__name__}")
    types = get_type_hints(Result)
    for key in types:
        if key not in row:
            raise ResultsError(f"{where}: expected the key {key!r}, found none")
    for key, value in row.items():
        if key not in types:
            raise ResultsError(f"{where}: expected the keys of schema {SCHEMA}, found {key!r}")
        if not _fits(value, types[key]):
            raise ResultsError(f"{where}: {key}: expected {_in_words(types[key])}, found {value!r}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    return Result(**values)


def _fits(value: Any, kind: Any) -> bool:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is tuple:
        return isinstance(value, list) and len(value) == len(inner) and all(map(_fits, value, inner))
    if origin is dict:
        return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())
    if inner:
        return any(_fits(value, each) for each in inner)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)


def _in_words(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)


def table(results: Sequence[Result]) -> str:
    """The results as an aligned text table."""
    header = ("test", "samples", "protocol", "encoder", "metric", "%", "95 % interval", "gain, 95 % interval")
    return aligned([header, *(_line(result) for result in results)])


def described(result: Result) -> str:
    """Protocol, setting, level, k and epochs in a few words."""
    level = "" if result.level is None else f"{result.level:g}"
    k = f"k = {result.k}" if result.k else ""
    epochs = f"{result.epochs} epoch" if result.epochs else ""
    return ", ".join(part for part in (result.protocol, f"{result.setting} {level}".strip(), k, epochs) if part)


def _line(result: Result) -> tuple[str, ...]:
    value = result.note or "-" if result.value is None else f"{result.value:.1f}"
    if result.value is not None and result.deviation is not None:
        value += f" ± {result.deviation:.1f}"
    found = "" if result.interval is None else f"{result.interval[0]:.1f} to {result.interval[1]:.1f}"
    gain = "" if result.gain is None else f"{result.gain[0]:+.1f} to {result.gain[1]:+.1f}"
    samples = str(result.test_samples)
    return result.test, samples, described(result), result.encoder, result.metric, value, found, gain


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text, columns one under the other."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
