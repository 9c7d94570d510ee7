"""`skelssl export`: a run's encoder for other runtimes, written once it computes the same."""

import copy
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import skelkern
from skelssl.data.fit import Wanted
from skelssl.data.store import Store, open_store
from skelssl.embed import as_store, encoder_input, load_encoder
from skelssl.engine.checkpoint import replace_file
from skelssl.engine.recipe import Recipe
from skelssl.protocols.context import load_run, read_recipe, stream_name
from skelssl.protocols.features import clip_batches

MOST_CLIPS = 1024  # of a call, where their number is free
CLIPS = 8  # over which errors are averaged
NEEDED = ("onnx", "onnxscript", "onnxruntime")
CHATTER = "torch.onnx._internal.exporter._registration"  # warns that torchvision, which nothing here needs, is absent
DESCRIPTION = "skelssl.json"
Runner = Callable[[Tensor], Tensor]


class ExportError(RuntimeError):
    """An encoder cannot be exported, or what was exported computes something else."""


@dataclass(frozen=True)
class Parity:
    """How far an exported encoder is from the encoder in float64.

    Attributes:
        what: the clips.
        largest: relative error of a clip's features, the largest one.
        error: root mean square over the clips.
        allowed: twice that of the reference implementation in float32, at least 8 of its epsilons.
    """

    what: str
    largest: float
    error: float
    allowed: float

    def __str__(self) -> str:
        return (
            f"{self.what}: largest relative error {self.largest:.2e}, mean {self.error:.2e}, at most {self.allowed:.2e}"
        )


def export(
    run: Path,
    *,
    onnx: Path | None = None,
    exported: Path | None = None,
    batch: int | None = None,
    data: Path | None = None,
) -> dict[Path, list[Parity]]:
    """Writes the encoder of a finished run, clips (N, C, T, V, M) float32 -> features (N, F), in evaluation mode.

    T is the number of frames that evaluation shows. What is written runs the reference implementations; it has been
    compared with the encoder in float64 before.

    Args:
        run: its folder.
        onnx: an ONNX file to write.
        exported: a file for `torch.export.load` to write.
        batch: N; None: any number from 1 to `MOST_CLIPS`.
        data: the run's store, whose training samples the comparison is made on as well.

    Returns:
        By file, how far it is off.

    Raises:
        ExportError: the encoder cannot be exported, is off by more than is allowed, or packages are missing.
        EvaluationError: the run is not finished, or not on this data.
    """
    if onnx is None and exported is None:
        raise ExportError("expected --onnx FILE or --exported FILE, found neither")
    if batch is not None and not 1 <= batch <= MOST_CLIPS:
        raise ExportError(f"batch: expected 1 to {MOST_CLIPS}, or dynamic, found {batch}")
    if onnx is not None:
        _check_packages()
    recipe, store = read_recipe(run), None if data is None else open_store(data)
    if store is not None:
        load_run(run, store)  # checks that it is the run's
    wanted = encoder_input(run, recipe, store)
    encoder = load_encoder(run, recipe, wanted)
    clips = {"random clips": _random_clips(recipe, wanted)}
    if store is not None:
        clips["training clips"] = _training_clips(recipe, store)
    program = exported_program(encoder, clips["random clips"], batch)
    about = json.dumps(_description(recipe, wanted, encoder, clips["random clips"]))
    files: dict[Path, list[Parity]] = {}
    for path, make in ((exported, _as_torch), (onnx, _as_onnx)):
        if path is not None:
            content, runner = make(program, about)
            files[path] = compare(encoder, runner, clips, batch)
            _write(path, content)
    return files


def exported_program(encoder: nn.Module, clips: Tensor, batch: int | None) -> torch.export.ExportedProgram:
    """The encoder as torch.export has it, for clips (N, C, T, V, M) of any N, or of `batch`.

    Raises:
        ExportError: torch.export refuses it.
    """
    sizes = None if batch else ({0: torch.export.Dim("clips", min=1, max=MOST_CLIPS)},)
    try:
        with torch.no_grad(), skelkern.use("reference"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*_flat_weights.*")  # recurrent layers' own list of parameters
            return torch.export.export(encoder, (clips[: batch or 3],), dynamic_shapes=sizes)
    except RuntimeError as error:
        first = str(error).strip().partition("\n")[0]
        raise ExportError(f"torch.export refuses {type(encoder).__name__}: {first}") from error


def compare(encoder: nn.Module, runner: Runner, clips: dict[str, Tensor], batch: int | None = None) -> list[Parity]:
    """Compares what was exported with the encoder.

    Raises:
        ExportError: it is off by more than is allowed.
    """
    found = []
    exact = copy.deepcopy(encoder).double()
    for what, each in clips.items():
        with torch.no_grad(), skelkern.use("reference"):
            truth, peer = exact(each.double()), encoder(each)
        parts = each.split(batch or len(each))
        ours = torch.cat([runner(part) for part in parts] if batch else [runner(each[:1]), runner(each[1:])])
        errors, of_peer = (_relative_errors(value, truth) for value in (ours, peer))
        allowed = max(2 * _mean(of_peer), 8 * torch.finfo(torch.float32).eps)
        found.append(Parity(what, errors.max().item(), _mean(errors), allowed))
        if not found[-1].error <= allowed:
            raise ExportError(f"what was exported computes something else; nothing is written; {found[-1]}")
    return found


def stable_sort() -> dict[Any, Callable[..., Any]]:
    """What torch's exporter lacks: ONNX's TopK puts the lower of two equal values' indices first, and so is stable."""
    from onnxscript import opset18 as op

    def sort(self, stable=None, dim=-1, descending=False):  # type: ignore[no-untyped-def]
        size = op.Reshape(op.Shape(self, start=dim, end=dim + 1), op.Constant(value_ints=[1]))  # type: ignore[arg-type]
        return op.TopK(self, size, axis=dim, largest=descending)

    return {torch.ops.aten.sort.stable: sort}


def _as_torch(program: torch.export.ExportedProgram, about: str) -> tuple[bytes, Runner]:
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={DESCRIPTION: about})
    module = torch.export.load(io.BytesIO(file.getvalue())).module()
    return file.getvalue(), torch.no_grad()(module)


def _as_onnx(program: torch.export.ExportedProgram, about: str) -> tuple[bytes, Runner]:
    import onnxruntime

    logging.getLogger(CHATTER).setLevel(logging.ERROR)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # of the exporter, about itself
        made = torch.onnx.export(
            program,
            (),
            dynamo=True,
            verbose=False,
            input_names=["clips"],
            output_names=["features"],
            custom_translation_table=stable_sort(),
        )
        assert made is not None
        made.model.metadata_props["skelssl"] = about
        made.save(file := Path(folder) / "encoder.onnx", external_data=False)
        content = file.read_bytes()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(clips: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"clips": clips.numpy()})[0])

    return content, run


def _random_clips(recipe: Recipe, wanted: Wanted) -> Tensor:
    """(CLIPS, C, T, V, M) normal numbers, as many frames as evaluation shows."""
    sizes = (wanted.persons, wanted.skeleton.num_joints, wanted.channels)
    (shown,) = clip_batches(recipe, as_store(recipe, wanted, [np.zeros((2, *sizes))]), np.zeros(1, np.int64))
    return torch.randn(CLIPS, *shown.shape[1:], generator=torch.Generator().manual_seed(0))


def _training_clips(recipe: Recipe, store: Store) -> Tensor:
    samples = store.select(recipe.training.split)
    chosen = samples[np.linspace(0, len(samples) - 1, CLIPS).astype(np.int64)]
    (clips,) = clip_batches(recipe, store, chosen)
    return clips


def _description(recipe: Recipe, wanted: Wanted, encoder: nn.Module, clips: Tensor) -> dict[str, Any]:
    """What a user of the file has to know of its input."""
    _, channels, frames, joints, persons = clips.shape
    return {
        "clips": {"channels": channels, "frames": frames, "joints": joints, "persons": persons},
        "joints": wanted.skeleton.joints,
        "units": wanted.units,
        "dataset": recipe.dataset,
        "preprocessing": recipe.preprocessing,
        "method": recipe.method,
        "stream": stream_name(recipe),
        "feature_dim": encoder.feature_dim,
    }


def _check_packages() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ExportError(f"--onnx needs {', '.join(missing)}: pip install -e '.[export]'")


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda partial: partial.write_bytes(content))
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error}") from None


def _relative_errors(values: Tensor, truth: Tensor) -> Tensor:
    """(N) of features (N, F)."""
    return (values.double() - truth).norm(dim=1) / truth.norm(dim=1)


def _mean(errors: Tensor) -> float:
    return errors.square().mean().sqrt().item()
