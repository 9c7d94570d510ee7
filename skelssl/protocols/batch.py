"""Several runs, one after the other, each on the data that it was pre-trained on."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from skelssl.data.store import Store, open_store
from skelssl.engine.pretrain import RUN
from skelssl.engine.recipe import with_evaluation
from skelssl.protocols.context import EvaluationError, load_run
from skelssl.protocols.evaluate import check_protocols, evaluate
from skelssl.protocols.results import table


def evaluate_runs(
    runs: Sequence[Path],
    protocols: Sequence[str],
    flags: Sequence[str] = (),
    *,
    data: Path | None = None,
    out: Path | None = None,
    train: str | None = None,
    test: str | None = None,
    target: Path | None = None,
    target_splits: Sequence[str] = ("train", "test"),
    device: torch.device | str = "cpu",
) -> Iterator[str]:
    """Evaluates runs and writes their results; the table of each as soon as it is there.

    Args:
        runs: folders of finished runs.
        protocols: see `skelssl.protocols.evaluate.PROTOCOLS`.
        flags: that change the recipes' options of evaluation, such as `--evaluation.neighbours=[1,5]`.
        data: store of all runs; by default the one that each was pre-trained on.
        out: folder for the results, of several runs with a folder for each; by default the run folders.
        train, test: splits; by default that of pre-training, and the recipe's.
        target, target_splits: store of another data set and its splits (training, test), for transfer.
        device: where encoders run.

    Raises:
        EvaluationError: see `skelssl.protocols.evaluate.evaluate`; or two runs would write to one folder.
    """
    check_protocols(protocols)
    if len(target_splits) != 2:
        raise EvaluationError(f"target splits: expected two with a comma, found {','.join(target_splits)!r}")
    twice = [name for name, count in Counter(run.name for run in runs).items() if count > 1]
    if out is not None and twice:
        raise EvaluationError(f"runs: expected folders of different names, found {twice[0]!r} twice")
    other = None if target is None else open_store(target)
    for run in runs:
        store = data_of(run, data)
        results = evaluate(
            run,
            store,
            protocols=protocols,
            train=train,
            test=test,
            out=out if out is None or len(runs) == 1 else out / run.name,
            recipe=with_evaluation(load_run(run, store), flags),
            device=_device(device),
            target=other,
            target_splits=(target_splits[0], target_splits[1]),
        )
        yield table(results) if len(runs) == 1 else f"{run}\n{table(results)}\n"


def data_of(run: Path, data: Path | None = None) -> Store:
    """The store that is given, or the one that a run was pre-trained on.

    Raises:
        EvaluationError: none is given, and the run does not say.
    """
    if data is not None:
        return open_store(data)
    try:
        found = json.loads((run / RUN).read_text())["data_path"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise EvaluationError(f"{run}: expected a run that names its data, or --data: {error!r}") from None
    return open_store(found)


def _device(name: torch.device | str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise EvaluationError(f"device: expected one of this machine, found {str(name)!r}: {error}") from None
    return device
