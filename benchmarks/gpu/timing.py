"""Races of the ops on a GPU: eager, torch.compile, its reduce-overhead mode, ours, and ours from a CUDA graph.

Every op runs in a process of its own and leaves build/gpu_check/timing/OP.json. An op whose tests have not passed
(`gpu.gate`) is not raced.
"""

import argparse
import functools
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import race
import torch
from torch import Tensor

from gpu import device
from gpu.gate import implementations

CAPTURED = f"{race.OURS}, captured"
FOLDER = device.WORK / "timing"
MODULES = {"stgcn_block": ("graph_conv", "block_tail")}  # benchmarks of several ops, which must all have passed


@dataclass
class Race:
    """What the race of one case found; every spread is (p20, median, p80)."""

    milliseconds: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    ratios: dict[str, tuple[float, float, float]] = field(default_factory=dict)  # to ours, of paired rounds
    peak_bytes: dict[str, int] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    share_of_bandwidth: float = 0.0  # of a copy, by the bytes that must move
    share_of_product: float = 0.0  # of torch's float32 product, by the operations that the result needs


def modules() -> dict[str, tuple[str, ...]]:
    """Benchmark files that race on a GPU, and the ops they need."""
    return {**{op: (op,) for op in implementations()}, **MODULES}


def peers(case: race.Case, compiled: bool) -> race.Case:
    """The case with what torch.compile makes of its first formulation that can be compiled."""
    functions: dict[str, Callable[..., Tensor]] = dict(case.functions)
    for name in case.compiled[:1] if compiled else ():
        functions[f"{name}, compiled"] = torch.compile(case.functions[name], dynamic=False)
        functions[f"{name}, reduce-overhead"] = torch.compile(
            case.functions[name], dynamic=False, mode="reduce-overhead"
        )
    return replace(case, functions=functions)


def run_case(case: race.Case, target: torch.device, seconds: float, compiled: bool) -> Race:
    """Checks the peers against the first that runs, then times those that agree in turns."""
    found = Race()
    with target:  # inputs, and what peers make themselves, are born there
        inputs = case.inputs()
        steps = race.make_steps(peers(case, compiled), inputs, with_compiled=False)
        observe = None if case.observe is None else functools.partial(case.observe, *inputs)
        calls = {name: steps[name] for name in race.check(steps, found, case.random, observe)}
        if race.OURS in calls and target.type == "cuda":
            _capture(calls, found, case.random)
        for name in calls:
            found.peak_bytes[name] = device.peak_bytes(calls[name], target)
        times = device.milliseconds_in_turns(calls, target, seconds)
    for name, values in times.items():
        found.milliseconds[name] = device.spread(values)
        if race.OURS in times:
            pairs = zip(values, times[race.OURS], strict=True)
            found.ratios[name] = device.spread([other / ours for other, ours in pairs])
    if race.OURS in times:
        best = 1e-3 * min(found.milliseconds[name][1] for name in (race.OURS, CAPTURED) if name in times)
        found.share_of_bandwidth = case.bytes / best / device.copy_bandwidth(target)
        found.share_of_product = case.flops / best / device.product_peak(target, torch.float32)
    return found


def _capture(calls: dict[str, device.Call], found: Race, random: bool) -> None:
    """Adds our step from a CUDA graph, when its results are those of the step itself."""
    try:
        replay, results = device.captured(calls[race.OURS])
        replay()
    except Exception as error:
        found.failures[CAPTURED] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        return
    if not random:
        found.errors[CAPTURED] = max(map(race.relative_error, results, calls[race.OURS]()))
        if found.errors[CAPTURED] > race.AGREEMENT:
            return
    calls[CAPTURED] = replay


def run_module(name: str, target: torch.device, seconds: float, dry_run: bool) -> dict[str, Any]:
    """All races of a benchmark file by case."""
    torch.backends.cudnn.allow_tf32 = False  # equal precision for all
    cases = race.chosen(importlib.import_module(f"bench_{name}").CASES, "smoke" if dry_run else "gpu")
    return {case.name: asdict(run_case(case, target, seconds, compiled=not dry_run)) for case in cases}


def why_not(needed: tuple[str, ...]) -> str:
    """Why an op is not raced: its tests have not passed here; empty when they have."""
    path = device.WORK / "gate.json"
    gate = json.loads(path.read_text()) if path.exists() else {}
    for op in needed:
        if op not in gate:
            return f"the tests of {op} have not run (scripts/gpu_check.sh gate)"
        if not all(outcome["holds"] for outcome in gate[op].values()):
            return f"the tests of {op} failed"
    return ""


def race_in_child(name: str, dry_run: bool, seconds: float) -> dict[str, Any]:
    """A file's races in a process of its own, so that an error on the device stays there."""
    command = [sys.executable, "-m", "gpu.timing", "--child", name, *(["--dry-run"] if dry_run else [])]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"left_out": f"not done after {seconds:.0f} s"}
    if child.returncode != 0:
        return {"left_out": f"failed: {child.stderr[-1500:]}"}
    return {"races": json.loads(child.stdout.splitlines()[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "modules", nargs="*", help="benchmark files without bench_; all that have GPU kernels by default"
    )
    parser.add_argument("--dry-run", action="store_true", help="smoke sizes on the CPU, whatever the tests say")
    parser.add_argument("--seconds", type=float, default=420.0, help="for everything; files left then are named")
    parser.add_argument("--child", metavar="MODULE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    target = device.target(arguments.dry_run)
    if arguments.child:
        print(json.dumps(run_module(arguments.child, target, 0.05 if arguments.dry_run else 1.0, arguments.dry_run)))
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    end = time.perf_counter() + arguments.seconds
    for name, needed in modules().items():
        if arguments.modules and name not in arguments.modules:
            continue
        left, reason = end - time.perf_counter(), "" if arguments.dry_run else why_not(needed)
        if left < 5 and not reason:
            reason = "no time was left: run `scripts/gpu_check.sh timing` for it alone"
        if reason:
            found = {"left_out": reason}
        elif arguments.dry_run and name != next(iter(modules())):  # one child shows that children work
            found = {"races": run_module(name, target, 0.05, dry_run=True)}
        else:
            found = race_in_child(name, arguments.dry_run, left)
        (FOLDER / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
        print(f"{name}: {found.get('left_out') or 'raced ' + '; '.join(found['races'])}", flush=True)


if __name__ == "__main__":
    main()
