"""`python -m skelkern.dropin MODULE:FACTORY`: what `accelerate` does to a model, and a step's time before and after."""

import argparse
import copy
import importlib
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from skelkern.dropin import accelerate
from skelkern.memory import reuse_memory

USAGE = """FACTORY() returns (model, inputs): a module and the tuple of its arguments, on the CPU in float32. A step is
forward and the gradients of a random product with all outputs."""


def load(path: str) -> tuple[nn.Module, tuple[Any, ...]]:
    """The model and its inputs from "module:function"."""
    module, _, name = path.partition(":")
    if not name:
        raise SystemExit(f"expected MODULE:FACTORY, found {path!r}")
    sys.path.insert(0, "")
    made = getattr(importlib.import_module(module), name)()
    if not isinstance(made, tuple) or len(made) < 2 or not isinstance(made[0], nn.Module):
        raise SystemExit(f"{path}: expected (model, inputs), found {type(made).__name__}")
    inputs = made[1]
    return made[0], inputs if isinstance(inputs, tuple) else (inputs,)


def make_step(model: nn.Module, inputs: tuple[Any, ...]) -> Callable[[], list[Tensor]]:
    """A step that returns outputs and gradients."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def step() -> list[Tensor]:
        found = model(*inputs)
        outputs = [y for y in (found if isinstance(found, tuple | list) else (found,)) if isinstance(y, Tensor)]
        outputs = [y for y in outputs if y.requires_grad]
        generator = torch.Generator().manual_seed(0)
        cotangents = [torch.randn(y.shape, generator=generator) for y in outputs]
        gradients = torch.autograd.grad(outputs, parameters, cotangents, allow_unused=True)
        return [*(y.detach() for y in outputs), *(gradient for gradient in gradients if gradient is not None)]

    return step


def race(steps: dict[str, Callable[[], list[Tensor]]], seconds: float) -> dict[str, float]:
    """Median milliseconds of every step, timed in turns for about so many seconds, at least three times each."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    end = time.perf_counter() + seconds
    while len(next(iter(times.values()))) < 3 or time.perf_counter() < end:
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def peak_memory() -> float:
    """The most memory that this process has had resident, in GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m skelkern.dropin", description=__doc__, epilog=USAGE)
    parser.add_argument("factory", metavar="MODULE:FACTORY")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each race (default 20)")
    parser.add_argument("--only", choices=("before", "after"), help="this model alone, and the memory that it needs")
    parser.add_argument("--reuse", action="store_true", help="with --only: memory reused from the start")
    arguments = parser.parse_args()
    if arguments.reuse and not arguments.only:
        parser.error("--reuse goes with --only; a race of both is run in either setting")
    model, inputs = load(arguments.factory)
    if arguments.only:
        measure(model, inputs, arguments.only, arguments.reuse, arguments.seconds)
    else:
        compare(model, inputs, arguments.seconds)


def measure(model: nn.Module, inputs: tuple[Any, ...], which: str, reuse: bool, seconds: float) -> None:
    """Prints the time of one model's step and the peak of resident memory."""
    if reuse:
        reuse_memory()
    if which == "after":
        accelerate(model)
    found = race({which: make_step(model, inputs)}, seconds)[which]
    setting = "memory reused" if reuse else "default allocator"
    print(f"{setting}: {found:.1f} ms {which}, peak resident memory {peak_memory():.2f} GB")


def compare(model: nn.Module, inputs: tuple[Any, ...], seconds: float) -> None:
    """Prints the report and the times of a step before and after, in both settings."""
    before = copy.deepcopy(model)
    print(accelerate(model))
    steps = {"before": make_step(before, inputs), "after": make_step(model, inputs)}
    for setting in ("default allocator", "memory reused"):
        if setting == "memory reused":
            reuse_memory()
        found = race(steps, seconds)
        ratio = found["before"] / found["after"]
        print(f"{setting}: {found['before']:.1f} ms before, {found['after']:.1f} ms after, {ratio:.2f}x")


if __name__ == "__main__":
    main()
