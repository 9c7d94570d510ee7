"""From nothing to a report: generated motions, pre-training, evaluation."""

from pathlib import Path

from skelssl.data.store import HEADER, Store, open_store
from skelssl.data.synthetic.dataset import synthesise
from skelssl.engine.pretrain import pretrain
from skelssl.engine.recipe import load_recipe
from skelssl.protocols.evaluate import evaluate, table
from skelssl.report.page import write_report

RECIPE = "pstl-synthetic"
# A part of what `skelssl synth` generates: one camera, actions of one person.
SUBJECTS, REPETITIONS, CAMERAS = 12, 6, (1,)
ACTIONS = ("drink", "sit down", "stand up", "pick up", "wave", "kick", "jump", "walk")


def quickstart(out: Path, flags: list[str] | None = None) -> Path:
    """Runs everything in `out`; what is there from an earlier call is used again. Returns the report's path.

    Args:
        out: folder for the generated store and the run.
        flags: that change the recipe, such as `--training.epochs=5`.
    """
    out.mkdir(parents=True, exist_ok=True)
    recipe = load_recipe(RECIPE, flags)
    data = out / "data"
    store = open_store(data) if (data / HEADER).is_file() else _generated(data, recipe.preprocessing)
    actions = ", ".join(store.header.class_names)
    print(f"data: {len(store)} generated sequences of {actions} in {data}")
    run = pretrain(recipe, store, out / "run", resume=True)
    results = evaluate(run, store)
    report, *_ = write_report([run], out / "report.html", data=data)
    print(f"\n{table(results)}\n\nreport: {report}")
    return report


def _generated(data: Path, preprocessing: str) -> Store:
    return synthesise(
        data, SUBJECTS, REPETITIONS, cameras=CAMERAS, actions=ACTIONS, persons=1, preprocessing=preprocessing
    )
