"""Races of a skelkern function against its peers: same inputs, same process, interleaved, after their results agreed.

`race_module` runs all cases of a benchmark file in child processes, one for each allocator setting; a child is this
file run as a script.
"""

import argparse
import functools
import gc
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

OURS = "skelkern"
AGREEMENT = 1e-4  # largest relative error at which two float32 formulations count as the same
RANDOM_AGREEMENT = 3e-2  # some ten standard deviations of root mean squares, where every peer draws its own numbers,
MANY = 1_000_000  # of results with at least as many elements: those of fewer vary by as much themselves
SIZES = ("smoke", "standard", "full")  # and "gpu", for races on one
SECONDS = {"smoke": 0.1, "standard": 3.0, "full": 6.0}

# Page faults of freshly mapped memory slow every temporary of an eager formulation; without mmap the allocator keeps
# its memory. Either setting holds for all peers of a race.
ALLOCATORS: dict[str, dict[str, str]] = {
    "default": {},
    "no-mmap": {
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": "60000000000",
        "MALLOC_TOP_PAD_": "67108864",
    },
}

Step = Callable[[], Sequence[Tensor]]


@dataclass(frozen=True)
class Case:
    """One size of an op.

    Attributes:
        name: the size in words.
        functions: forward functions of the same arguments by name, the official formulation first.
        inputs: makes the arguments; the gradients of those that require one are part of the race.
        flops: floating-point operations that the result needs.
        bytes: bytes that must at least be read and written.
        compiled: names of functions that also run under torch.compile.
        sizes: the smallest of SIZES that this case belongs to, or "gpu".
        random: every peer draws random numbers of its own, so that only sizes of results can be compared.
        observe: what peers must agree in, a function of the arguments and a peer's output, where it is not the output
            itself: indices, say, differ between points that are equally far within float32.
    """

    name: str
    functions: dict[str, Callable[..., Tensor]]
    inputs: Callable[[], tuple[Any, ...]]
    flops: float
    bytes: float
    compiled: tuple[str, ...] = ()
    sizes: str = "standard"
    random: bool = False
    observe: Callable[..., Tensor] | None = None


@dataclass
class Result:
    """What one race found; peers that failed or disagreed have no ratio."""

    milliseconds: dict[str, float] = field(default_factory=dict)  # medians
    ratios: dict[str, tuple[float, float, float]] = field(default_factory=dict)  # to ours: p20, median, p80
    peak_bytes: dict[str, int] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)  # largest relative error against the official formulation
    failures: dict[str, str] = field(default_factory=dict)
    share_of_floor: float = 0.0  # least time that the processor needs / our time


def chosen(cases: Sequence[Case], sizes: str) -> list[Case]:
    """The cases of a --sizes setting: smoke and gpu have cases of their own, full adds to standard."""
    wanted = (sizes,) if sizes in ("smoke", "gpu") else SIZES[1 : SIZES.index(sizes) + 1]
    return [case for case in cases if case.sizes in wanted]


def clear_of_gates(
    draw: Callable[[], tuple[Tensor, ...]], gates: Callable[..., Sequence[Tensor]], margin: float = 1e-6
) -> tuple[Tensor, ...]:
    """Draws inputs until no argument of a ReLU, as `gates` gives them in float64, is within rounding errors of 0.

    There two right formulations take different sides and differ by a whole element of the gradient.
    """
    while True:
        inputs = draw()
        with torch.no_grad():
            if all(gate.abs().min() > margin for gate in gates(*(value.double() for value in inputs))):
                return inputs


def make_steps(case: Case, inputs: tuple[Any, ...], with_compiled: bool) -> dict[str, Step]:
    """Callables that run forward, and backward where there is a gradient, by name."""
    functions = dict(case.functions)
    if with_compiled:
        for name in case.compiled:
            functions[f"{name}, compiled"] = torch.compile(case.functions[name], dynamic=False)
    leaves = [value for value in inputs if isinstance(value, Tensor) and value.requires_grad]
    cotangent: list[Tensor] = []

    def step(function: Callable[..., Tensor]) -> Sequence[Tensor]:
        output = function(*inputs)
        if not leaves:
            return (output,)
        if not cotangent:
            generator = torch.Generator(output.device).manual_seed(0)
            cotangent.append(torch.randn(output.shape, device=output.device, generator=generator))
        return (output.detach(), *torch.autograd.grad(output, leaves, cotangent[0]))

    return {name: lambda function=function: step(function) for name, function in functions.items()}


def race(
    steps: dict[str, Step], seconds: float, random: bool = False, observe: Callable[[Tensor], Tensor] | None = None
) -> Result:
    """Checks the peers against the first of them, then times those that agree in turns for about `seconds`."""
    result = Result()
    agreeing = check(steps, result, random, observe)
    for name in agreeing:
        result.peak_bytes[name] = peak_bytes(steps[name]) + (kernel_bytes(steps[name]) if name == OURS else 0)
    times = _time_in_turns({name: steps[name] for name in agreeing}, seconds)
    for name, values in times.items():
        result.milliseconds[name] = 1e3 * statistics.median(values)
        if OURS in times:
            quotients = sorted(other / ours for other, ours in zip(values, times[OURS], strict=True))
            result.ratios[name] = (_quantile(quotients, 0.2), statistics.median(quotients), _quantile(quotients, 0.8))
    return result


def agreement(random: bool) -> float:
    """The largest error at which a peer agrees."""
    return RANDOM_AGREEMENT if random else AGREEMENT


def check(steps: dict[str, Step], result: Any, random: bool, observe: Callable[[Tensor], Tensor] | None) -> list[str]:
    """Runs every peer twice (the second time warm) and returns those that agree with the first that runs.

    Args:
        steps: the peers.
        result: where `errors` and `failures` go.
        random: only sizes of results can agree.
        observe: what of a first output must agree.
    """
    truth: Sequence[Tensor] | None = None
    for name, step in steps.items():
        try:
            step()
            found = step()
        except Exception as error:  # a peer that cannot run is reported, the others race on
            result.failures[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            continue
        if observe is not None:
            found = [observe(found[0]), *found[1:]]
        if random:
            found = [value.double().square().mean().sqrt() for value in found if value.numel() >= MANY]
        truth = found if truth is None else truth
        result.errors[name] = max(map(relative_error, found, truth))
    return [name for name, error in result.errors.items() if error <= agreement(random)]


def relative_error(value: Tensor, truth: Tensor) -> float:
    if value.shape != truth.shape:
        return float("inf")
    difference, size = (value.double() - truth.double()).norm().item(), truth.double().norm().item()
    error = difference / size if size > 0 else difference
    return float("inf") if error != error else error


def _time_in_turns(steps: dict[str, Step], seconds: float) -> dict[str, list[float]]:
    """Times of every peer, one a round; the order rotates, so that nobody always runs behind the same neighbour."""
    names = list(steps)
    times: dict[str, list[float]] = {name: [] for name in names}
    end = time.perf_counter() + seconds
    gc.collect()
    gc.disable()
    try:
        while len(times[names[0]]) < 3 or time.perf_counter() < end:
            for name in names:
                start = time.perf_counter()
                steps[name]()
                times[name].append(time.perf_counter() - start)
            names = names[1:] + names[:1]
    finally:
        gc.enable()
    return times


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[round(share * (len(ordered) - 1))]


def peak_bytes(step: Step) -> int:
    """Most bytes of tensors and arrays a step holds at once beyond its inputs, by the allocators' records."""
    tracemalloc.start()
    with torch.autograd.profiler.profile(profile_memory=True) as profile:  # torch.profiler's imports the compiler
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        kept = step()
        _, of_arrays = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    events = [event for event in profile.kineto_results.events() if event.name() == "[memory]"]
    del kept
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak + of_arrays - before


def kernel_bytes(step: Step) -> int:
    """Bytes of large results and of scratch that skelkern holds for a step, which torch's records do not show.

    Scratch is kept between calls, that of larger ones included: an upper bound of what one call needs.
    """
    from skelkern import _cpu

    _cpu.free_kept_memory()
    before = _cpu.result_bytes()
    step()
    return _cpu.result_bytes() - before + _cpu.scratch_bytes()


def floor_seconds(case: Case) -> float:
    """The least time in which this machine can do the case's operations and move its bytes."""
    from skelkern import _cpu

    threads, iterations = torch.get_num_threads(), 300_000
    block = torch.ones(16 * 2**20)
    target = torch.empty_like(block)
    operations, copies = [], []
    for _ in range(7):
        start = time.perf_counter()
        flops = _cpu.multiply_add(iterations, threads)
        operations.append((time.perf_counter() - start) / flops)
        start = time.perf_counter()
        target.copy_(block)
        copies.append((time.perf_counter() - start) / (2 * block.nbytes))
    return max(case.flops * min(operations), case.bytes * min(copies))


def run_cases(cases: Sequence[Case], sizes: str) -> dict[str, Any]:
    """All races of one process, as JSON data by case."""
    results = {}
    for case in chosen(cases, sizes):
        inputs = case.inputs()
        steps = make_steps(case, inputs, with_compiled=sizes != "smoke")
        observe = None if case.observe is None else functools.partial(case.observe, *inputs)
        result = race(steps, SECONDS[sizes], case.random, observe)
        if OURS in result.milliseconds:
            result.share_of_floor = floor_seconds(case) / (1e-3 * result.milliseconds[OURS])
        results[case.name] = asdict(result)
    return results


def race_module(path: Path, sizes: str, allocators: Sequence[str] = tuple(ALLOCATORS)) -> dict[str, dict[str, Any]]:
    """The results of a benchmark file by allocator setting and case."""
    results = {}
    for allocator in allocators:
        command = [sys.executable, __file__, str(path), "--sizes", sizes]
        child = subprocess.run(command, env=os.environ | ALLOCATORS[allocator], capture_output=True, text=True)
        if child.returncode != 0:
            raise RuntimeError(f"the race of {path.name} ({allocator} allocator) failed:\n{child.stderr[-3000:]}")
        results[allocator] = json.loads(child.stdout.splitlines()[-1])
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", type=Path, help="a bench_*.py file")
    parser.add_argument("--sizes", choices=SIZES, default="standard")
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.module.parent))
    module = importlib.import_module(arguments.module.stem)
    print(json.dumps(run_cases(module.CASES, arguments.sizes)))


if __name__ == "__main__":
    main()
