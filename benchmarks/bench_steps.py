"""Whole pre-training steps, from views to optimizer, key networks and queues, against the same model on PyTorch.

The peer runs the reference implementations: plain PyTorch, in the formulation that this project would have without
kernels.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from race import OURS, Case
from torch import Tensor

import skelkern
from skelssl.data.loading import mapped_sequences
from skelssl.data.store import Header, Store
from skelssl.data.writer import write_store
from skelssl.engine.build import build_method
from skelssl.engine.recipe import Recipe, load_recipe
from skelssl.engine.schedule import make_optimizer
from skelssl.views.draws import Draws

FRAMES, PERSONS, JOINTS = 80, 2, 25


class Training:
    """A method that learns from one batch, again and again."""

    def __init__(self, recipe: Recipe, store: Store, implementation: str):
        self.method = build_method(recipe, store).train()
        self.optimizer = make_optimizer(recipe.training, self.method.parameters())
        for group in self.optimizer.param_groups:
            group["lr"] = 1e-6  # which does not change how long a step takes, and keeps all losses finite
        for module in self.method.modules():
            if "Dropout" in type(module).__name__:
                module.p = 0.0  # peers draw differently, and their losses could not be compared
        self.implementation = implementation
        self.batch = next(mapped_sequences(store).batches([torch.arange(recipe.training.batch_size)]))
        self.step = 0

    def losses(self) -> Tensor:
        """The parts of the loss of one step."""
        with skelkern.use(self.implementation):
            values = self.method.training_step(self.batch, Draws(0, 0), self.step)
            self.optimizer.zero_grad()
            values["loss"].backward()
            self.optimizer.step()
        self.step += 1
        return torch.stack([value.detach() for value in values.values()])


def make_store(folder: Path, samples: int) -> Store:
    """Sequences of two persons of 25 joints."""
    random = np.random.default_rng(0)
    sequences = (random.normal(size=(FRAMES, PERSONS, JOINTS, 3)).cumsum(axis=0) / 10 for _ in range(samples))
    names = [f"{number}" for number in range(samples)]
    header = Header("steps", "ntu25", "raw", "metres", ["all"], names)
    return write_store(folder / "store", header, sequences, {"labels": np.zeros(samples)}, {})


def make_inputs(recipe: Recipe) -> tuple[Training, Training]:
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder), recipe.training.batch_size)
        store = replace(store, frames=np.array(store.frames))  # the file goes
        return Training(recipe, store, "reference"), Training(recipe, store, "auto")


def case(name: str, recipe: str, *flags: str, sizes: str = "standard") -> Case:
    loaded = load_recipe(recipe, flags)
    functions: dict[str, Callable[[Training, Training], Tensor]] = {
        "reference": lambda reference, ours: reference.losses(),
        OURS: lambda reference, ours: ours.losses(),
    }
    described = f"{name}, {loaded.training.batch_size} sequences"
    return Case(described, functions, partial(make_inputs, loaded), 0, 0, sizes=sizes)


CASES = [
    case(
        "HiCo, GRU",
        "hico-ntu60-xsub",
        "--training.batch_size=4",
        "--hico.encoder=gru",
        "--hico.width=32",
        sizes="smoke",
    ),
    case("PSTL", "pstl-ntu60-xsub"),
    case("HiCo, GRU", "hico-ntu60-xsub", "--hico.encoder=gru"),
    case("HiCo, Transformer", "hico-ntu60-xsub"),
    case("SCC, temporal", "scc-ntu60-xsub-temporal", sizes="full"),
    case("ISC, sequence and graph", "isc-ntu60-xsub", sizes="full"),
    case("ISC, graph and image", "isc-ntu60-xsub", "--isc.forms=[graph,image]", sizes="full"),
]


def test_steps(compare, case):
    compare(case)
