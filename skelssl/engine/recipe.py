"""Recipes: every choice of a training run in one YAML file, which command-line flags override."""

import dataclasses
import difflib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jsonargparse
import yaml

from skelssl.methods.hico import HiCoOptions
from skelssl.methods.isc import FORMS, ISCOptions
from skelssl.methods.method import MethodOptions
from skelssl.methods.pstl import PSTLOptions
from skelssl.methods.scc import SCCOptions

FOLDER = Path(__file__).parents[1] / "recipes"
GROUPS = {"pstl": {"pstl", "encoder"}, "hico": {"hico"}, "isc": {"isc"}, "scc": {"scc"}}  # options of one method only

# What may follow a recipe's name: of every dictionary of its method one word at most, in this order, and its flag.
VARIANTS: dict[str, tuple[dict[str, str], ...]] = {
    "pstl": ({stream: f"--pstl.stream={stream}" for stream in ("motion", "bone")},),
    "hico": (
        {encoder: f"--hico.encoder={encoder}" for encoder in ("gru", "lstm")},
        {stream: f"--hico.stream={stream}" for stream in ("motion", "bone")},
    ),
    "isc": (
        {
            "-".join(forms): f"--isc.forms=[{','.join(forms)}]"
            for count in (2, 1)
            for forms in itertools.permutations(FORMS, count)
            if forms != ISCOptions.forms
        },
    ),
    "scc": (
        {granularity: f"--scc.granularity={granularity}" for granularity in ("coarse", "both")},
        {"masked": "--scc.masked_ratio=0.4"},
    ),
}


class RecipeError(ValueError):
    """A recipe, or a flag that changes it, is not as expected."""


@dataclass(frozen=True)
class EncoderOptions:
    """Arguments of `skelssl.encoders.stgcn.STGCN`, PSTL's encoder; other methods have theirs in their own group."""

    hidden_channels: int = 16
    feature_dim: int = 256
    dropout: float = 0.5
    renormalise: bool = False


@dataclass(frozen=True)
class TrainingOptions:
    """The training loop.

    Attributes:
        split: samples that are trained on.
        epochs: passes over them.
        batch_size: samples of a step, over all processes.
        optimizer: "adam" or "sgd".
        momentum: of SGD.
        learning_rate: reached after the warm-up.
        final_learning_rate: where a half cosine takes it in the end.
        milestones: epochs at which the rate is divided by ten; where there are any, it follows no cosine.
        weight_decay: L2 penalty added to the gradient.
        warmup_epochs: over which the rate grows by equal steps.
        warmup_from_zero: the first epoch runs at rate 0, as in PSTL's code; otherwise at one step.
        keep_last_batch: train on an incomplete last batch as well.
        seed: of all draws, the initialisation and dropout.
        checkpoint_every: epochs between checkpoints; there is one after the last epoch in any case.
        probe_every: epochs between nearest-neighbour probes on a part of the training samples; 0: none.
        loading: "resident": frames live on the device; "streamed": every batch's are moved to it, read ahead by a
            thread; "auto": resident where they fit. Results are the same, and a run may be resumed with another one.
        frame_type: of the frames on the device; "bfloat16" takes half the memory and rounds to a 256th (4 mm at 1 m).
        precision: "bf16-mixed": products of encoders and heads in bfloat16, by torch's autocast; views, weights and
            losses stay float32, and so does evaluation.
        cuda_graph: losses, backward and optimizer step are recorded once and replayed as one CUDA graph.
    """

    split: str = "train"
    epochs: int = 150
    batch_size: int = 128
    optimizer: Literal["adam", "sgd"] = "adam"
    momentum: float = 0.9
    learning_rate: float = 5e-3
    final_learning_rate: float = 0.0
    milestones: tuple[int, ...] = ()
    weight_decay: float = 1e-5
    warmup_epochs: int = 10
    warmup_from_zero: bool = True
    keep_last_batch: bool = False
    seed: int = 0
    checkpoint_every: int = 10
    probe_every: int = 5
    loading: Literal["auto", "resident", "streamed"] = "auto"
    frame_type: Literal["float32", "bfloat16"] = "float32"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    cuda_graph: bool = False


@dataclass(frozen=True)
class SolverOptions:
    """Training with labels: of a linear classifier, or of a whole network with one on top.

    Attributes:
        epochs: passes over the labelled samples; an incomplete last batch is trained on as well.
        batch_size: samples of a step.
        optimizer: "adam" or "sgd".
        momentum, nesterov: of SGD.
        learning_rate: in the first epoch.
        final_learning_rate: where a half cosine takes it in the end.
        milestones: epochs at which the rate is divided by ten; where there are any, it follows no cosine.
        weight_decay: L2 penalty added to the gradient.
        warmup_epochs, warmup_from_zero: as those of `TrainingOptions`.
    """

    epochs: int = 150
    batch_size: int = 128
    optimizer: Literal["adam", "sgd"] = "adam"
    momentum: float = 0.9
    nesterov: bool = False
    learning_rate: float = 5e-3
    final_learning_rate: float = 0.0
    milestones: tuple[int, ...] = ()
    weight_decay: float = 0.0
    warmup_epochs: int = 0
    warmup_from_zero: bool = True


@dataclass(frozen=True)
class RobustnessOptions:
    """How test sequences are damaged; one curve for each kind of damage.

    Attributes:
        joints: numbers of joints that are lost, the same ones in all sequences of a draw.
        frames: shares of a sequence's frames that are lost.
        noise: standard deviations of noise on every coordinate, in the store's units.
        turns: angles in degrees about the vertical axis.
        draws: random damages of each level, over which results are averaged.
    """

    joints: tuple[int, ...] = (2, 4, 6, 8, 10, 12)
    frames: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7)
    noise: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1)
    turns: tuple[float, ...] = (15.0, 30.0, 45.0, 60.0, 90.0)
    draws: int = 5


@dataclass(frozen=True)
class EvaluationOptions:
    """What `evaluate` and `choose` do with a trained encoder.

    Attributes:
        test: samples that are tested; those of `<test>_unseen`, where a store has them, are reported as well.
        linear_epochs, linear_learning_rate, linear_batch_size, linear_optimizer, linear_momentum, linear_nesterov,
            linear_final_learning_rate, linear_milestones: of the linear classifier, see `SolverOptions`.
        linear_initialisation: weights start Xavier-normal ("xavier") or N(0, 0.01²) ("normal"), biases at 0.
        standardise: scale every feature by its mean and deviation over the training samples before the linear
            classifier, trained and untrained alike. Few hundred samples are too few steps to fit unscaled features.
        exact_penalties: L2 penalties of the exact linear classifier, one of which cross-validation chooses.
        neighbours: values of k for nearest-neighbour classification.
        fractions: labelled shares of the training samples, for the semi-supervised protocol.
        subsets: number of labelled subsets of each fraction, drawn by different seeds.
        finetune: training of the whole network.
        finetunings: number of seeds with which it is trained on all labels.
        robustness: damages of the test sequences.
        initialisations: number of untrained encoders beside the trained one.
        validation: (training, validation) splits on which choices are made; they must not touch the test split.
    """

    test: str = "test"
    linear_epochs: int = 150
    linear_learning_rate: float = 0.01
    linear_batch_size: int = 128
    linear_optimizer: Literal["adam", "sgd"] = "adam"
    linear_momentum: float = 0.9
    linear_nesterov: bool = False
    linear_final_learning_rate: float = 0.0
    linear_milestones: tuple[int, ...] = ()
    linear_initialisation: Literal["xavier", "normal"] = "xavier"
    standardise: bool = False
    exact_penalties: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    neighbours: tuple[int, ...] = (1, 5, 10, 20)
    fractions: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
    subsets: int = 5
    finetune: SolverOptions = field(default_factory=SolverOptions)
    finetunings: int = 1
    robustness: RobustnessOptions = field(default_factory=RobustnessOptions)
    initialisations: int = 5
    validation: tuple[tuple[str, str], ...] = ()

    @property
    def linear(self) -> SolverOptions:
        """How the linear classifier is trained."""
        return SolverOptions(
            epochs=self.linear_epochs,
            batch_size=self.linear_batch_size,
            optimizer=self.linear_optimizer,
            momentum=self.linear_momentum,
            nesterov=self.linear_nesterov,
            learning_rate=self.linear_learning_rate,
            final_learning_rate=self.linear_final_learning_rate,
            milestones=self.linear_milestones,
        )


@dataclass(frozen=True)
class Recipe:
    """A method on a data set.

    Attributes:
        dataset: name of the data set, as in its store's header.
        preprocessing: of the store, by name.
        method: whose options count; those of the others must not be given.
        official: compute what the method's official code computes.
    """

    dataset: str
    preprocessing: str
    method: Literal["pstl", "hico", "isc", "scc"] = "pstl"
    official: bool = False
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    pstl: PSTLOptions = field(default_factory=PSTLOptions)
    hico: HiCoOptions = field(default_factory=HiCoOptions)
    isc: ISCOptions = field(default_factory=ISCOptions)
    scc: SCCOptions = field(default_factory=SCCOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)

    @property
    def method_options(self) -> MethodOptions:
        """Those of the recipe's method, as its official code has them where that is wanted."""
        options: MethodOptions = getattr(self, self.method)
        return options.official() if self.official else options

    def as_data(self) -> dict[str, Any]:
        """Nested dictionaries of plain values, without those that belong to other methods."""
        others = {group for groups in GROUPS.values() for group in groups} - GROUPS[self.method]
        return _lists({key: value for key, value in dataclasses.asdict(self).items() if key not in others})


def names() -> tuple[str, ...]:
    """Recipes that come with the library."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def variants(name: str) -> dict[str, tuple[str, ...]]:
    """What may follow a recipe's name, such as "bone" or "gru-bone", and the flags that each of these stands for."""
    method = name.partition("-")[0]
    # person colours have no coarse form
    choices = [choice for choice in VARIANTS.get(method, ()) if not ("person" in name and "coarse" in choice)]
    words = itertools.product(*({"": "", **choice} for choice in choices))
    flags = {word: flag for choice in choices for word, flag in choice.items()}
    found = [tuple(filter(None, chosen)) for chosen in words]
    return {"-".join(chosen): tuple(flags[word] for word in chosen) for chosen in found if chosen}


def load_recipe(name: str | Path, flags: Sequence[str] | None = None) -> Recipe:
    """A recipe of the library by name, or one from a YAML file, changed by flags such as `--training.epochs=30`.

    A variant's words may follow the name: "pstl-ntu60-xsub-bone" is "pstl-ntu60-xsub" with `--pstl.stream=bone`.

    Raises:
        RecipeError: no such recipe, an unknown key, or a value of the wrong type.
    """
    path, of_variant = _found(name)
    parser, flags, data = _parser(), [*of_variant, *(flags or ())], _read(path)
    method = _chosen_method(data, flags)
    _check_keys(_dotted(data), method, str(path.name))
    _check_keys([flag[2:].split("=")[0] for flag in flags if flag.startswith("--")], method, f"{path.name}, flags")
    try:
        return _instantiate(parser, parser.parse_args(["--config", str(path), *flags]))
    except (jsonargparse.ArgumentError, TypeError) as error:
        raise RecipeError(f"{path.name}: {' '.join(str(error).split())}") from None


def with_evaluation(recipe: Recipe, flags: Sequence[str]) -> Recipe:
    """A recipe with other options of evaluation, by flags such as `--evaluation.neighbours=[1,5]`.

    Raises:
        RecipeError: an unknown key, one of another group, or a value of the wrong type.
    """
    for flag in flags:
        if not flag.startswith("--evaluation."):
            raise RecipeError(f"flags: expected --evaluation.KEY=VALUE, found {flag!r}")
    _check_keys([flag[2:].split("=")[0] for flag in flags], recipe.method, "flags")
    parser = _parser()
    try:
        given = parser.parse_object(recipe.as_data())
        return _instantiate(parser, parser.parse_args(list(flags), namespace=given))
    except (jsonargparse.ArgumentError, TypeError) as error:
        raise RecipeError(f"flags: {' '.join(str(error).split())}") from None


def recipe_from_data(data: dict[str, Any]) -> Recipe:
    """The recipe of a run's config.yaml.

    Raises:
        RecipeError: an unknown key, or a value of the wrong type.
    """
    parser = _parser()
    _check_keys(_dotted(data), _chosen_method(data, ()), "config")
    try:
        return _instantiate(parser, parser.parse_object(data))
    except (jsonargparse.ArgumentError, TypeError) as error:
        raise RecipeError(f"config: {' '.join(str(error).split())}") from None


def changed_keys(first: dict[str, Any], second: dict[str, Any], prefix: str = "") -> list[str]:
    """Keys, with dots, in which two nested dictionaries differ."""
    changed = []
    for key in sorted(set(first) | set(second)):
        one, other = first.get(key), second.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            changed += changed_keys(one, other, f"{prefix}{key}.")
        elif one != other:
            changed.append(f"{prefix}{key}")
    return changed


def _found(name: str | Path) -> tuple[Path, tuple[str, ...]]:
    """The file of a recipe, and the flags of its variant."""
    path, plain = Path(name), str(name)
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / f"{plain}.yaml"
    if path.is_file():
        return path, ()
    for base in names():
        found = variants(base).get(plain.removeprefix(f"{base}-"))
        if found and plain.startswith(f"{base}-"):
            return FOLDER / f"{base}.yaml", found
    raise RecipeError(
        f"recipe: expected one of {', '.join(names())}, a variant of one (skelssl recipes) or a YAML file, "
        f"found {plain!r}"
    )


def _parser() -> jsonargparse.ArgumentParser:
    parser = jsonargparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(Recipe)
    return parser


def _instantiate(parser: jsonargparse.ArgumentParser, parsed: Any) -> Recipe:
    arguments = vars(parser.instantiate(parsed))
    recipe = Recipe(**{each.name: arguments[each.name] for each in dataclasses.fields(Recipe)})
    _check_values(recipe)
    return recipe


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: expected YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: expected keys and values, found {type(data).__name__}")
    return data


def _chosen_method(data: dict[str, Any], flags: Iterable[str]) -> Any:
    """The method that a recipe, changed by flags, names; the default where it names none that is known."""
    given = [flag.partition("=")[2] for flag in flags if flag.startswith("--method=")]
    method = [data.get("method"), *given][-1]
    return method if method in GROUPS else "pstl"


def _check_keys(keys: Iterable[str], method: Any, where: str) -> None:
    known = _dotted(Recipe("", "", method).as_data())
    for key in keys:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0)[0]
            raise RecipeError(f"{where}: unknown key {key!r}; the nearest known one is {nearest!r}")


def _check_values(recipe: Recipe) -> None:
    training, evaluation = recipe.training, recipe.evaluation
    at_least: tuple[tuple[str, float, float], ...] = (
        ("training.epochs", training.epochs, 1),
        ("training.batch_size", training.batch_size, 2),
        ("training.learning_rate", training.learning_rate, 0),
        ("training.weight_decay", training.weight_decay, 0),
        ("training.warmup_epochs", training.warmup_epochs, 0),
        ("training.checkpoint_every", training.checkpoint_every, 1),
        ("training.probe_every", training.probe_every, 0),
        ("evaluation.linear_epochs", evaluation.linear_epochs, 1),
        ("evaluation.linear_batch_size", evaluation.linear_batch_size, 1),
        ("evaluation.neighbours", min(evaluation.neighbours, default=0), 1),
        ("evaluation.initialisations", evaluation.initialisations, 1),
        ("evaluation.subsets", evaluation.subsets, 1),
        ("evaluation.finetunings", evaluation.finetunings, 1),
        ("evaluation.finetune.epochs", evaluation.finetune.epochs, 1),
        ("evaluation.finetune.batch_size", evaluation.finetune.batch_size, 2),
        ("evaluation.robustness.joints", min(evaluation.robustness.joints, default=1), 1),
        ("evaluation.robustness.noise", min(evaluation.robustness.noise, default=0), 0),
        ("evaluation.robustness.draws", evaluation.robustness.draws, 1),
    )
    for key, found, lowest in at_least:
        if not found >= lowest:
            raise RecipeError(f"{key}: expected at least {lowest}, found {found}")
    if not evaluation.exact_penalties or min(evaluation.exact_penalties) <= 0:
        raise RecipeError(f"evaluation.exact_penalties: expected some above 0, found {evaluation.exact_penalties}")
    for key, shares, most in (("fractions", evaluation.fractions, 1.0), ("frames", evaluation.robustness.frames, 0.99)):
        if not all(0 < share <= most for share in shares):
            where = "evaluation." if key == "fractions" else "evaluation.robustness."
            raise RecipeError(f"{where}{key}: expected shares in (0, {most:g}], found {shares}")


def _dotted(data: dict[str, Any], prefix: str = "") -> list[str]:
    """Every key of nested dictionaries, groups included, with dots: {"a": {"b": 1}} has "a" and "a.b"."""
    keys = []
    for key, value in data.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, dict):
            keys += _dotted(value, f"{prefix}{key}.")
    return keys


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(each) for key, each in value.items()}
    return [_lists(each) for each in value] if isinstance(value, tuple | list) else value
