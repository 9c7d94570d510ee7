"""The training loop."""

import json
import math
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning_fabric
import numpy
import torch
import yaml
from lightning_fabric import Fabric
from safetensors.torch import save_file
from torch import Tensor

import skelkern
from skelkern import _cpu
from skelssl import skeletons
from skelssl.data.store import Store
from skelssl.encoders.stgcn import STGCN
from skelssl.engine.checkpoint import load_checkpoint, replace_file, save_checkpoint
from skelssl.engine.log import Log
from skelssl.engine.recipe import Recipe, RecipeError, TrainingOptions, changed_keys
from skelssl.methods.pstl import PSTL
from skelssl.views.augment import SequenceBatch
from skelssl.views.draws import Draws

ENCODER, CONFIG, RUN = "encoder.safetensors", "config.yaml", "run.json"


class TrainingError(RuntimeError):
    """Training cannot go on."""


def pretrain(recipe: Recipe, store: Store, out: Path, *, resume: bool = False, fabric: Fabric | None = None) -> Path:
    """Trains an encoder and leaves a run folder: encoder.safetensors, config.yaml, run.json, log.csv, checkpoint.

    On one machine, with the same number of threads and the same SIMD level, a run that was interrupted at any moment
    and resumed ends in bitwise the same weights as one that was not.

    Args:
        recipe: every choice.
        store: its data set.
        out: the run folder; a finished run in it is left as it is when `resume` is set.
        resume: go on after the last complete checkpoint in `out`.
        fabric: device, precision and processes; by default one process on the best device there is.

    Raises:
        RecipeError: the store is not the recipe's, or `out` holds a run of another recipe.
        TrainingError: `out` holds a run and `resume` is not set, or the loss is no number any more.
    """
    fabric = fabric or Fabric(devices=1)
    _check_store(recipe, store)
    _begin(recipe, store, out, resume)
    method = build_method(recipe, store)
    optimizer = torch.optim.Adam(method.parameters(), weight_decay=recipe.training.weight_decay)
    first_epoch = _restore(out, method, optimizer)
    model, wrapped_optimizer = fabric.setup(method, optimizer)
    model.mark_forward_method("training_step")
    sequences = _sequences(store, recipe.training.split, fabric.device)
    with Log(out, first_epoch, recipe.training.epochs) as log:
        for epoch in range(first_epoch, recipe.training.epochs):
            start = time.perf_counter()
            means = _train_epoch(recipe, fabric, model, wrapped_optimizer, sequences, epoch)
            log.epoch(epoch, {**means, "seconds": time.perf_counter() - start})
            done = epoch + 1
            if done % recipe.training.checkpoint_every == 0 or done == recipe.training.epochs:
                state = {"epoch": done, "method": method.state_dict(), "optimizer": optimizer.state_dict()}
                save_checkpoint(out, done, state)
    weights = {name: tensor.cpu().contiguous() for name, tensor in method.encoder.state_dict().items()}
    replace_file(out / ENCODER, lambda partial: save_file(weights, partial))
    return out


def build_encoder(recipe: Recipe, store: Store) -> STGCN:
    """The recipe's encoder, freshly initialised by torch's generator."""
    skeleton = skeletons.get(store.header.skeleton)
    return STGCN(skeleton, in_channels=store.frames.shape[3], **vars(recipe.encoder))


def build_method(recipe: Recipe, store: Store) -> PSTL:
    """The recipe's method, initialised from its seed."""
    torch.manual_seed(recipe.training.seed)
    return PSTL(build_encoder(recipe, store), skeletons.get(store.header.skeleton), recipe.method_options)


def learning_rate(options: TrainingOptions, epoch: int) -> float:
    """Warm-up by equal steps, then a half cosine to 0 (PSTL's schedule)."""
    if epoch < options.warmup_epochs:
        return options.learning_rate * (epoch + (not options.warmup_from_zero)) / options.warmup_epochs
    progress = (epoch - options.warmup_epochs) / (options.epochs - options.warmup_epochs)
    return options.learning_rate * (1 + math.cos(math.pi * progress)) / 2


def batches(options: TrainingOptions, samples: Tensor, epoch: int) -> Iterator[Tensor]:
    """The epoch's batches of samples, in an order that depends on seed and epoch alone."""
    order = samples[Draws(options.seed, epoch).permutation("loader", "order", len(samples)).to(samples.device)]
    for batch in order.split(options.batch_size):
        if len(batch) == options.batch_size or (options.keep_last_batch and len(batch) > 1):
            yield batch


def _train_epoch(
    recipe: Recipe, fabric: Fabric, model: Any, optimizer: Any, sequences: SequenceBatch, epoch: int
) -> dict[str, float]:
    """One pass over the data; the mean of every value that the method returns, and the learning rate."""
    options = recipe.training
    draws = Draws(options.seed, epoch)
    torch.manual_seed(Draws(options.seed, epoch).words(torch.tensor([fabric.global_rank]), "torch", "seed", ()).item())
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(options, epoch)
    model.train()
    steps = [batch[fabric.global_rank :: fabric.world_size] for batch in batches(options, sequences.samples, epoch)]
    totals: dict[str, float] = {}
    for number, samples in enumerate(steps):
        batch = SequenceBatch(sequences.frames, sequences.offsets, samples)
        values = model.training_step(batch, draws, epoch * len(steps) + number)
        optimizer.zero_grad()
        fabric.backward(values["loss"])
        optimizer.step()
        for name, value in values.items():
            totals[name] = totals.get(name, 0.0) + value.item() / len(steps)
        if not math.isfinite(totals["loss"]):
            raise TrainingError(
                f"the loss is {totals['loss']} in step {number} of epoch {epoch}; checkpoints are intact"
            )
    return {**totals, "learning_rate": learning_rate(options, epoch)}


def _sequences(store: Store, split: str, device: torch.device) -> SequenceBatch:
    """The whole data set on the device, and the samples of a split."""
    arrays = (store.frames, store.offsets, store.select(split))
    frames, offsets, samples = (torch.from_numpy(numpy.asarray(array)).to(device) for array in arrays)
    return SequenceBatch(frames, offsets, samples)


def _restore(out: Path, method: PSTL, optimizer: torch.optim.Optimizer) -> int:
    """Loads the last checkpoint, if there is one; returns the epoch to go on with."""
    state = load_checkpoint(out)
    if state is None:
        return 0
    method.load_state_dict(state["method"])
    optimizer.load_state_dict(state["optimizer"])
    return state["epoch"]


def _check_store(recipe: Recipe, store: Store) -> None:
    header = store.header
    for name, expected, found in (
        ("dataset", recipe.dataset, header.dataset),
        ("preprocessing", recipe.preprocessing, header.preprocessing),
    ):
        if expected != found:
            raise RecipeError(f"{store.path}: expected {name} {expected!r}, as the recipe says, found {found!r}")
    samples = len(store.select(recipe.training.split))
    if samples < recipe.training.batch_size and not recipe.training.keep_last_batch:
        raise RecipeError(
            f"batch_size: expected at most the {samples} samples of the split, found {recipe.training.batch_size}"
        )


def _begin(recipe: Recipe, store: Store, out: Path, resume: bool) -> None:
    """Makes the run folder, or checks that the one to resume is of this recipe and this data."""
    config, record = recipe.as_data(), {"data": store.header.hashes, **_environment()}
    if (out / CONFIG).exists():
        if not resume:
            raise TrainingError(f"{out}: expected a new folder, found a run; resume it or choose another")
        changed = changed_keys(yaml.safe_load((out / CONFIG).read_text()), config)
        if changed:
            raise RecipeError(f"{out}: the run to resume has another recipe; different: {', '.join(changed)}")
        if json.loads((out / RUN).read_text())["data"] != store.header.hashes:
            raise RecipeError(f"{out}: the run to resume was on other data than {store.path}")
        return
    out.mkdir(parents=True, exist_ok=True)
    replace_file(out / RUN, lambda partial: partial.write_text(json.dumps(record, indent=1)))
    replace_file(out / CONFIG, lambda partial: partial.write_text(yaml.safe_dump(config, sort_keys=False)))


def _environment() -> dict[str, Any]:
    return {
        "versions": {
            "skelkern": skelkern.__version__,
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "lightning-fabric": lightning_fabric.__version__,
            "python": platform.python_version(),
        },
        "cpu_level": _cpu.level(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
    }
