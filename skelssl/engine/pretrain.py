"""The training loop."""

import json
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning_fabric import Fabric
from safetensors.torch import save_file
from torch import Tensor

import skelkern
from skelkern import _cpu
from skelssl.data.loading import Sequences, load_sequences
from skelssl.data.store import Store
from skelssl.engine.build import build_method
from skelssl.engine.checkpoint import load_checkpoint, replace_file, save_checkpoint
from skelssl.engine.environment import commit, versions
from skelssl.engine.log import Log
from skelssl.engine.recipe import Recipe, RecipeError, TrainingOptions, changed_keys, recipe_from_data
from skelssl.engine.schedule import learning_rate, make_optimizer, set_rate
from skelssl.engine.step import RecordedStep, autocast, recorded_step
from skelssl.methods.method import Method
from skelssl.protocols.features import shared_encoding
from skelssl.protocols.health import Watch
from skelssl.views.draws import Draws

ENCODER, CONFIG, RUN = "encoder.safetensors", "config.yaml", "run.json"
COLLAPSED = 1e-6  # of `feature_std`; what float32 rounding leaves of equal features


class TrainingError(RuntimeError):
    """Training cannot go on."""


def pretrain(recipe: Recipe, store: Store, out: Path, *, resume: bool = False, fabric: Fabric | None = None) -> Path:
    """Trains an encoder and leaves a run folder: encoder.safetensors, config.yaml, run.json, log.csv, checkpoint.

    On one machine, with the same number of threads and the same SIMD level, a run that was interrupted at any moment
    and resumed ends in bitwise the same weights as one that was not. With several processes each takes its share of
    every batch, and statistics, losses, queues and gradients are those of the whole batch.

    Args:
        recipe: every choice.
        store: its data set.
        out: the run folder; a finished run in it is left as it is when `resume` is set.
        resume: go on after the last complete checkpoint in `out`.
        fabric: device and processes, launched; by default one process on the best device there is. Its precision is
            the recipe's matter.

    Raises:
        RecipeError: the store is not the recipe's, or `out` holds a run of another recipe.
        TrainingError: `out` holds a run and `resume` is not set, the loss is no number any more, or all features have
            become equal.
        CheckpointError: no checkpoint can be written, or all there are are damaged.
    """
    fabric = fabric or Fabric(devices=1)
    _check_store(recipe, store)
    _check_batches(recipe.training, len(store.select(recipe.training.split)), fabric.world_size)
    _check_folder(recipe, store, out, resume)
    fabric.barrier()  # every process has looked before one of them writes
    with reused_memory():
        return _pretrain(recipe, store, out, fabric)


@contextmanager
def reused_memory() -> Iterator[None]:
    """Freed memory is kept while training: every step asks for the same again."""
    try:
        before = skelkern.reuse_memory()
    except NotImplementedError:  # not this C library: slower, nothing else
        yield
        return
    try:
        yield
    finally:
        if not before:
            skelkern.reuse_memory(False)


def _pretrain(recipe: Recipe, store: Store, out: Path, fabric: Fabric) -> Path:
    if fabric.is_global_zero:
        _begin(recipe, store, out, fabric)
    method = build_method(recipe, store)
    optimizer = make_optimizer(recipe.training, method.parameters())
    model, wrapped_optimizer = fabric.setup(method, optimizer)
    model.mark_forward_method("training_step")
    # on the device: the optimizer's state follows its parameters
    first_epoch = _restore(out, method, optimizer, fabric)
    recorded = None
    if recipe.training.cuda_graph:
        recorded = recorded_step(recipe.training, method, optimizer, fabric.device, fabric.world_size)
    samples = store.select(recipe.training.split)
    sequences = load_sequences(store, samples, fabric.device, recipe.training.loading, recipe.training.frame_type)
    watch = Watch(recipe, store)
    with Log(out, first_epoch, recipe.training.epochs) if fabric.is_global_zero else nullcontext() as log:
        for epoch in range(first_epoch, recipe.training.epochs):
            start = time.perf_counter()
            means = _train_epoch(
                recipe, fabric, model, wrapped_optimizer, sequences, torch.from_numpy(samples), epoch, recorded
            )
            with shared_encoding() if fabric.world_size > 1 else nullcontext():
                means |= _watch_features(watch, method, epoch)
            if log is not None:
                log.epoch(epoch, {**means, "seconds": time.perf_counter() - start})
                _save(recipe.training, out, epoch + 1, method, optimizer)
    if fabric.is_global_zero:
        # copies: an encoder may have a tensor under two names, as DGCNN has its normalisations
        weights = {name: tensor.cpu().clone().contiguous() for name, tensor in method.encoder.state_dict().items()}
        # one entry: safetensors writes several in any order, and files of equal runs would differ
        metadata = {"skelssl": json.dumps({**_clips(store), "recipe": recipe.as_data()})}
        replace_file(out / ENCODER, lambda partial: save_file(weights, partial, metadata))
    fabric.barrier()
    return out


def batches(options: TrainingOptions, samples: Tensor, epoch: int, processes: int = 1) -> Iterator[Tensor]:
    """The epoch's batches of samples, in an order that depends on seed and epoch alone.

    An incomplete last batch is kept where that is wanted and there is a sample for every process, at least two in all.
    """
    order = samples[Draws(options.seed, epoch).permutation("loader", "order", len(samples))]
    for batch in order.split(options.batch_size):
        if len(batch) == options.batch_size or (options.keep_last_batch and len(batch) >= max(2, processes)):
            yield batch


def _train_epoch(
    recipe: Recipe,
    fabric: Fabric,
    model: Any,
    optimizer: Any,
    sequences: Sequences,
    samples: Tensor,
    epoch: int,
    recorded: RecordedStep | None = None,
) -> dict[str, float]:
    """One pass over the data; the mean of every value that the method returns, and the learning rate."""
    options, processes = recipe.training, fabric.world_size
    draws = Draws(options.seed, epoch)
    torch.manual_seed(draws.words(torch.tensor([fabric.global_rank]), "torch", "seed", ()).item())
    set_rate(optimizer, learning_rate(options, epoch))
    model.train()
    steps = list(batches(options, samples, epoch, processes))
    totals: dict[str, Tensor] = {}
    for number, batch in enumerate(sequences.batches([step[fabric.global_rank :: processes] for step in steps])):
        place = epoch * len(steps) + number
        if recorded is not None:
            values = recorded(batch, draws, place)
        else:
            joint = skelkern.joint_batch(len(steps[number])) if processes > 1 else nullcontext()
            with joint, autocast(options, fabric.device):
                values = model.training_step(batch, draws, place)
        weight = len(batch.samples) * processes / len(steps[number])
        loss = values["loss"] * weight
        mean = torch.as_tensor(fabric.all_reduce(loss.detach().clone()))  # so that all processes stop
        if not torch.isfinite(mean):
            raise TrainingError(f"the loss is {mean.item()} in step {number} of epoch {epoch}; checkpoints are intact")
        if recorded is None:
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
        totals = {name: totals.get(name, 0) + weight * value.detach().double() for name, value in values.items()}
    means = torch.as_tensor(fabric.all_reduce(torch.stack(list(totals.values())) / len(steps)))
    return {**dict(zip(totals, means.tolist(), strict=True)), "learning_rate": learning_rate(options, epoch)}


def _watch_features(watch: Watch, method: Method, epoch: int) -> dict[str, float]:
    """How much the features of a few training sequences differ from each other, and what they are good for."""
    values = watch.epoch(method.encoder, epoch)
    spread = values["feature_std"]
    if not spread > COLLAPSED:
        raise TrainingError(
            f"the features have collapsed in epoch {epoch}, all sequences get the same (feature_std {spread:.2g}); "
            "checkpoints are intact"
        )
    return values


def _save(options: TrainingOptions, out: Path, done: int, method: Method, optimizer: torch.optim.Optimizer) -> None:
    """A checkpoint after `done` epochs, when it is time for one.

    The state of torch's generator is not part of it: every epoch begins by seeding it.
    """
    if done % options.checkpoint_every == 0 or done == options.epochs:
        save_checkpoint(out, done, {"epoch": done, "method": method.state_dict(), "optimizer": optimizer.state_dict()})


def _restore(out: Path, method: Method, optimizer: torch.optim.Optimizer, fabric: Fabric) -> int:
    """Loads the last checkpoint, if there is one; returns the epoch to go on with, the same in all processes."""
    state = load_checkpoint(out)
    epoch: int = 0 if state is None else state["epoch"]
    expected = fabric.broadcast(epoch)
    if epoch != expected:
        raise TrainingError(
            f"{out}: expected the folder that the first process sees, after epoch {expected}, found epoch {epoch}"
        )
    if state is not None:
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
    return epoch


def _check_store(recipe: Recipe, store: Store) -> None:
    header = store.header
    for name, expected, found in (
        ("dataset", recipe.dataset, header.dataset),
        ("preprocessing", recipe.preprocessing, header.preprocessing),
    ):
        if expected != found:
            raise RecipeError(f"{store.path}: expected {name} {expected!r}, as the recipe says, found {found!r}")


def _check_batches(options: TrainingOptions, samples: int, processes: int) -> None:
    """There must be a batch, and a sample of it for every process."""
    size = min(options.batch_size, samples) if options.keep_last_batch else options.batch_size
    if size > samples:
        raise RecipeError(f"batch_size: expected at most the {samples} samples of the split, found {size}")
    if size < max(2, processes):
        wanted = f"at least two samples and one for each process of {processes}"
        raise RecipeError(f"batch_size: expected {wanted}, found {size}")


def _check_folder(recipe: Recipe, store: Store, out: Path, resume: bool) -> None:
    """Checks that the run folder is new, or that the one to resume is of this recipe and this data."""
    if not (out / CONFIG).exists():
        return
    if not resume:
        raise TrainingError(f"{out}: expected a new folder, found a run; resume it or choose another")
    try:
        config = recipe_from_data(yaml.safe_load((out / CONFIG).read_text()))  # later keys have their defaults
        hashes = json.loads((out / RUN).read_text())["data"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise TrainingError(f"{out}: expected a run to resume, found damaged files: {error!r}") from None
    changed = [key for key in changed_keys(config.as_data(), recipe.as_data()) if key != "training.loading"]
    if changed:
        raise RecipeError(f"{out}: the run to resume has another recipe; different: {', '.join(changed)}")
    if hashes != store.header.hashes:
        raise RecipeError(f"{out}: the run to resume was on other data than {store.path}")


def _begin(recipe: Recipe, store: Store, out: Path, fabric: Fabric) -> None:
    """Writes config.yaml and run.json; of a run that goes on, warns where its surroundings have changed."""
    environment = _environment(fabric)
    if (out / CONFIG).exists():
        before = json.loads((out / RUN).read_text())
        changed = [key for key in changed_keys(before, environment) if key.split(".")[0] in environment]
        if changed:
            differing = "its dropout and the last bits" if "processes" in changed else "the last bits"
            effect = f"{differing} of its weights may differ from those of an uninterrupted run"
            warnings.warn(f"{out}: resumed with another {', another '.join(changed)}: {effect}", stacklevel=2)
        return
    out.mkdir(parents=True, exist_ok=True)
    record = {
        "data": store.header.hashes,
        "data_path": str(store.path.resolve()),
        "seed": recipe.training.seed,
        "commit": commit(),
        "precision": recipe.training.precision,
        **environment,
    }
    replace_file(out / RUN, lambda partial: partial.write_text(json.dumps(record, indent=1)))
    config = yaml.safe_dump(recipe.as_data(), sort_keys=False)
    replace_file(out / CONFIG, lambda partial: partial.write_text(config))


def _clips(store: Store) -> dict[str, Any]:
    """What an encoder's clips are made of, for those who have no store."""
    persons, _, channels = store.frames.shape[1:]
    header = store.header
    return {"skeleton": header.skeleton, "persons": persons, "channels": channels, "units": header.units}


def _environment(fabric: Fabric) -> dict[str, Any]:
    """What the last bits of weights depend on."""
    cuda = fabric.device.type == "cuda"
    return {
        "versions": versions(),
        "cpu_level": _cpu.level(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "device": torch.cuda.get_device_name(fabric.device) if cuda else fabric.device.type,
        "processes": fabric.world_size,
    }
