"""The command line. Every command is one function; flags that it does not know change the recipe."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory


def prepare(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Read a data set into a store."""
    from skelssl.data.prepare import prepare as read

    _refuse(flags)
    progress = sys.stderr.isatty()
    print(_described(read(arguments.kind, arguments.source, arguments.out, arguments.preprocessing, progress=progress)))


def synth(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Generate motions of one and two persons, as depth cameras would record them."""
    from skelssl.data.synthetic import dataset

    _refuse(flags)
    size, progress = (arguments.subjects, arguments.repetitions), sys.stderr.isatty()
    chosen = {"seed": arguments.seed, "preprocessing": arguments.preprocessing, "progress": progress}
    if arguments.raw is None:
        print(_described(dataset.synthesise(arguments.out, *size, **chosen)))
    else:
        print(_described(dataset.synthesise_raw(arguments.raw, arguments.out, *size, **chosen)))


def verify(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Check a store: hashes, published counts, samples, copies across splits."""
    from skelssl.data.verify import verify as check

    _refuse(flags)
    report = check(arguments.store)
    print(report)
    if report.problems:
        sys.exit(1)


def convert(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Write a store in another code's format."""
    from skelssl.data.convert import convert as write

    _refuse(flags)
    for path in write(arguments.kind, arguments.store, arguments.out):
        print(f"written: {path}")


def recipes(arguments: argparse.Namespace, flags: list[str]) -> None:
    """List the recipes, and what may follow the name of each."""
    from skelssl.engine.recipe import names, variants

    _refuse(flags)
    for name in names():
        print(name, *(f"-{suffix}" for suffix in variants(name)))


def pretrain(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Train an encoder by a recipe."""
    from skelssl.data.store import open_store
    from skelssl.engine.pretrain import pretrain as train
    from skelssl.engine.processes import launched
    from skelssl.engine.recipe import load_recipe

    recipe = load_recipe(arguments.recipe, flags)
    fabric = launched(arguments.accelerator, arguments.devices)
    run = train(recipe, open_store(arguments.data), arguments.out, resume=arguments.resume, fabric=fabric)
    if fabric.is_global_zero:
        print(f"run: {run}")


def evaluate(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Results of runs by the chosen protocols, the untrained encoder beside each."""
    from skelssl.engine.processes import launched
    from skelssl.protocols.batch import evaluate_runs
    from skelssl.protocols.features import shared_encoding

    given = vars(arguments)
    chosen = {key: given[key] for key in ("data", "out", "train", "test", "target")}
    protocols, splits = (given[key].split(",") for key in ("protocols", "target_splits"))
    fabric = launched(arguments.accelerator, arguments.devices)
    with shared_encoding() if fabric.world_size > 1 else nullcontext(), TemporaryDirectory() as elsewhere:
        if not fabric.is_global_zero:  # one process writes
            chosen["out"] = Path(elsewhere)
        for text in evaluate_runs(
            arguments.run, protocols, flags, target_splits=splits, device=fabric.device, **chosen
        ):
            if fabric.is_global_zero:
                print(text, flush=True)


def fuse(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Linear results of all subsets of runs: their scores and their features together."""
    from skelssl.protocols.batch import data_of
    from skelssl.protocols.fuse import fuse as together
    from skelssl.protocols.results import table

    weights = None if arguments.weights is None else [float(weight) for weight in arguments.weights.split(",")]
    store, splits = data_of(arguments.run[0], arguments.data), (arguments.train, arguments.test)
    print(table(together(arguments.run, store, *splits, weights=weights, out=arguments.out, flags=flags)))


def compare(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Put results beside each other and beside published ones."""
    from skelssl.protocols.compare import compare as tables

    _refuse(flags)
    print(tables(arguments.results, published=not arguments.no_published))


def choose(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Compare settings on the recipe's validation splits; the test split is not touched."""
    from skelssl.data.store import open_store
    from skelssl.protocols import choose as choice

    store = open_store(arguments.data)
    print(choice.table(choice.choose(arguments.recipe, store, arguments.out, arguments.grid, flags)))


def embed(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Features, and with --data classes, of new recordings by a run's encoder."""
    from skelssl import embed as embedding
    from skelssl.data.fit import Depth
    from skelssl.data.readers.pose_files import Described
    from skelssl.engine.processes import launched

    _refuse(flags)
    given = vars(arguments)
    found = embedding.embed(
        arguments.run,
        arguments.files,
        **{key: given[key] for key in ("data", "window", "stride")},
        described=Described(**{key: given[key] for key in ("skeleton", "units", "up", "least_score")}),
        depth=Depth(arguments.depth == "zero", arguments.scale),
        device=launched(arguments.accelerator, 1).device,
    )
    embedding.write_embedding(found, arguments.out)
    if arguments.csv is not None:
        embedding.write_csv(found, arguments.csv)
    print(embedding.table(found))
    print(f"features: {arguments.out}")


def export(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Write a run's encoder for ONNX or torch.export, and compare it with the encoder."""
    from skelssl import export as exporting

    _refuse(flags)
    if arguments.batch != "dynamic" and not arguments.batch.isdecimal():
        raise ValueError(f"batch: expected a number or dynamic, found {arguments.batch!r}")
    batch = None if arguments.batch == "dynamic" else int(arguments.batch)
    chosen = {"onnx": arguments.onnx, "exported": arguments.exported, "data": arguments.data}
    for path, parities in exporting.export(arguments.run, batch=batch, **chosen).items():
        print(*parities, f"encoder: {path}", sep="\n")


def show(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Draw a sample, or two side by side, as an animation or as key frames in a row."""
    from skelssl.report.show import show as draw

    _refuse(flags)
    given = vars(arguments)
    chosen = {key: given[key] for key in ("augment", "layout", "seed", "skeleton", "units", "up", "fps", "frames")}
    for line in draw(arguments.samples, arguments.out, views=arguments.views.split(","), **chosen):
        print(line)


def report(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Write the report of runs: a page that needs no network, Markdown and CSV."""
    from skelssl.report.page import write_report

    _refuse(flags)
    for path in write_report(arguments.run, arguments.out, results=arguments.results, data=arguments.data):
        print(f"report: {path}")


def quickstart(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Generated data, pre-training, evaluation and a report in about two minutes."""
    from skelssl.quickstart import quickstart as run

    run(arguments.out, flags)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command; errors that a user can mend are one line and exit status 2."""
    given = list(sys.argv[1:] if argv is None else argv)
    # wherever --debug stands: a command's own parser would take it for a flag of the recipe
    arguments, flags = _parser().parse_known_args(sorted(given, key=lambda argument: argument != "--debug"))
    try:
        arguments.command(arguments, flags)
    except KeyboardInterrupt:
        print("skelssl: interrupted; what was complete is kept (pretrain --resume goes on)", file=sys.stderr)
        sys.exit(130)
    except (ValueError, RuntimeError, OSError) as error:
        if arguments.debug:
            raise
        print(f"skelssl: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="skelssl", description="Self-supervised skeleton action recognition")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(function):  # type: ignore[no-untyped-def]
        added = commands.add_parser(function.__name__, help=function.__doc__, allow_abbrev=False)
        added.set_defaults(command=function)
        return added

    added = command(prepare)
    added.add_argument("kind", help="what the source is, such as ntu60, nw-ucla or arrays; see docs/data.md")
    added.add_argument("source", type=Path, help="file, folder or archive")
    added.add_argument("--out", type=Path, required=True)
    added.add_argument("--preprocessing", help="what is done to the skeletons; every kind has a default")
    added = command(synth)
    added.add_argument("--out", type=Path, required=True)
    added.add_argument(
        "--raw", type=Path, help="folder for raw .skeleton files, which are then read as recorded ones are"
    )
    added.add_argument("--subjects", type=int, default=24)
    added.add_argument("--repetitions", type=int, default=2, help="of each action by each subject")
    added.add_argument("--seed", type=int, default=0)
    added.add_argument("--preprocessing", default="agcn", help="what is done to the skeletons")
    command(verify).add_argument("store", type=Path)
    added = command(convert)
    added.add_argument("kind", help="ctrgcn-npz, pyskl-pkl or frame50; see docs/data.md")
    added.add_argument("store", type=Path)
    added.add_argument("--out", type=Path, required=True, help="a file for pyskl-pkl, a folder for the others")
    command(recipes)
    added = command(pretrain)
    added.add_argument("recipe", help="name or YAML file")
    added.add_argument("--data", type=Path, required=True, help="store")
    added.add_argument("--out", type=Path, required=True, help="run folder")
    added.add_argument("--resume", action="store_true", help="go on after the last checkpoint")
    added.add_argument("--accelerator", default="auto", help="cpu, cuda or auto")
    added.add_argument("--devices", type=int, default=1, help="number of processes, each with a device of its own")
    added = command(choose)
    added.add_argument("recipe", help="name or YAML file")
    added.add_argument("--data", type=Path, required=True, help="store")
    added.add_argument("--out", type=Path, required=True, help="folder for the runs")
    added.add_argument("--grid", nargs="+", default=[], metavar="KEY=VALUE,VALUE")
    _add_protocols(command(evaluate), command(fuse), command(compare))
    added = command(report)
    added.add_argument("run", type=Path, nargs="+", help="run folders")
    added.add_argument("--results", type=Path, help="results.json, or folder of results; by default the run folders")
    added.add_argument("--data", type=Path, help="store; by default the one of pre-training")
    added.add_argument("--out", type=Path, help="the page, x.html; x.md and x.csv lie beside it")
    _add_embed(command(embed))
    _add_export(command(export))
    _add_show(command(show))
    command(quickstart).add_argument("--out", type=Path, default=Path("skelssl-quickstart"))
    return parser


def _add_protocols(
    evaluated: argparse.ArgumentParser, fused: argparse.ArgumentParser, compared: argparse.ArgumentParser
) -> None:
    for added in (evaluated, fused):
        added.add_argument("run", type=Path, nargs="+", help="run folders")
        added.add_argument("--data", type=Path, help="store; by default the one of pre-training")
        added.add_argument("--train", help="split with labels; by default that of pre-training")
        added.add_argument("--test", help="split to test on; by default the recipe's")
        added.add_argument("--out", type=Path, help="folder for results.json")
    evaluated.add_argument("--protocols", default="linear,knn", help="with commas; see docs/evaluation.md")
    evaluated.add_argument("--target", type=Path, help="store of another data set, for transfer")
    evaluated.add_argument("--target-splits", default="train,test", help="its splits for training and test")
    evaluated.add_argument("--accelerator", default="cpu", help="where encoders run, cpu, cuda or auto")
    evaluated.add_argument("--devices", type=int, default=1, help="number of processes, which share the encoding")
    fused.add_argument("--weights", help="of the runs' scores, with commas; by default equal")
    compared.add_argument("results", type=Path, nargs="+", help="results.json files, or folders with one")
    compared.add_argument("--no-published", action="store_true", help="leave published results out")


def _add_embed(added: argparse.ArgumentParser) -> None:
    added.add_argument("run", type=Path, help="run folder")
    added.add_argument("files", type=Path, nargs="+", help=".skeleton, .npy, .npz or .json; see docs/embed.md")
    added.add_argument("--out", type=Path, required=True, help="x.npz")
    added.add_argument("--csv", type=Path, help="the same as a table")
    added.add_argument("--data", type=Path, help="the run's store: classifies by its training labels")
    added.add_argument("--window", type=int, help="frames that are looked at together; by default a whole recording")
    added.add_argument("--stride", type=int, help="frames from one window to the next; by default half a window")
    added.add_argument("--skeleton", help="layout of the joints, a name or a YAML file, where a file does not say")
    added.add_argument("--units", help="of an array: metres or pixels")
    added.add_argument("--up", help="axis that points upwards: y, -y or z (write --up=-y)")
    added.add_argument("--scale", type=float, help="of the coordinates, such as 0.001 for millimetres")
    added.add_argument("--depth", choices=["zero"], help="put poses of an image into a plane of depth zero")
    added.add_argument("--least-score", type=float, default=0.0, help="joints of a lower one were not seen")
    added.add_argument("--accelerator", default="cpu", help="where the encoder runs, cpu, cuda or auto")


def _add_export(added: argparse.ArgumentParser) -> None:
    added.add_argument("run", type=Path, help="run folder")
    added.add_argument("--onnx", type=Path, metavar="FILE", help="for ONNX's runtimes")
    added.add_argument("--exported", type=Path, metavar="FILE", help="for torch.export.load")
    added.add_argument("--batch", default="dynamic", help="number of clips of a call, or dynamic: any")
    added.add_argument("--data", type=Path, help="the run's store: compares on its training clips, too")


def _add_show(added: argparse.ArgumentParser) -> None:
    added.add_argument("samples", nargs="+", metavar="SAMPLE", help="STORE:NAME, STORE:NUMBER, .skeleton or .npy file")
    added.add_argument("--out", type=Path, required=True, help="x.gif or x.png")
    added.add_argument("--augment", metavar="NAME", help="the same after an augmentation beside it; see docs/views.md")
    added.add_argument("--layout", metavar="NAME", help="the same with the joints of another layout beside it")
    added.add_argument("--seed", type=int, default=0, help="of the augmentation")
    added.add_argument("--views", default="front", help="front, side or both, with a comma")
    added.add_argument("--skeleton", help="layout of an array's joints, a name or a YAML file")
    added.add_argument("--units", help="of an array: metres or pixels")
    added.add_argument("--up", help="axis that points upwards: y, -y or z (write --up=-y)")
    added.add_argument("--fps", type=float, default=30.0, help="frames per second")
    added.add_argument("--frames", type=int, default=8, help="number of key frames of a .png")


def _refuse(flags: list[str]) -> None:
    if flags:
        raise ValueError(f"unknown arguments: {' '.join(flags)}")


def _described(store) -> str:  # type: ignore[no-untyped-def]
    splits = ", ".join(f"{name} {len(samples)}" for name, samples in sorted(store.splits.items()))
    return f"{store.path}: {len(store)} sequences, {len(store.frames)} frames; {splits}"
