"""Compiles the Triton kernels ahead of time, without a GPU, and compares what they need with `triton_budget.json`.

    python tests/kernels/triton_budget.py             every kernel of every case for sm_80, sm_90 and sm_100
    python tests/kernels/triton_budget.py --sample    every kernel once, for sm_90
    python tests/kernels/triton_budget.py --write     all, and raises the budget to what was found

Registers and shared memory may not exceed the budget, nothing may lie on the stack, and loads of 16 bytes and tensor
cores must be where the budget has them. The budget is the largest need over the versions of Triton that wrote it.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import triton
from guards import triton_modules
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton_cases import CASES

from skelkern import gpu

BUDGET = Path(__file__).with_name("triton_budget.json")
ARCHITECTURES = (80, 90, 100)
MULTIPROCESSORS = {80: 108, 90: 132, 100: 148}
MOST_SHARED = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}
WIDE_LOAD = re.compile(r"ld\.global[.\w]*\.v4|ld\.global[.\w]*\.v2\.b64|cp\.async\.cg\.shared\.global [^;]*, 0x10")
TENSOR_CORE = re.compile(r"\bmma\.sync|\bwgmma\.mma_async|\btcgen05\.mma")
TYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
TYPES |= {torch.int64: "i64", torch.int32: "i32", torch.bool: "i1"}


@dataclass(frozen=True)
class Launch:
    """What a launcher would have started: a kernel, its arguments by name, its constants, warps and stages."""

    kernel: Any
    arguments: dict[str, Any]
    constants: dict[str, Any]
    warps: int
    stages: int


@dataclass(frozen=True)
class Needs:
    """What a compiled kernel needs, and whether it has 16-byte loads and tensor-core instructions."""

    registers: int
    stack: int
    shared: int
    wide_loads: bool
    tensor_cores: bool


def launches(call: Any, architecture: int) -> list[Launch]:
    """Launches of a call on tensors without memory, with the configurations of an architecture."""
    recorded: list[Launch] = []

    def record(
        kernel: Any, grid: Any, *arguments: Any, device: Any, warps: int, stages: int = 1, **constants: Any
    ) -> None:
        names = dict(zip(kernel.arg_names, arguments, strict=False))
        recorded.append(Launch(kernel, names, constants, warps, stages))

    # autocast is not for devices without memory
    patches = [mock.patch.object(torch, "autocast", lambda *args, **options: nullcontext())]
    patches += [mock.patch.object(module, "launch", record) for module in triton_modules()]
    patches.append(mock.patch.object(gpu, "capability", lambda device: divmod(architecture, 10)))
    patches.append(mock.patch.object(gpu, "multiprocessors", lambda device: MULTIPROCESSORS[architecture]))
    for patch in patches:
        patch.start()
    try:
        call()
    finally:
        for patch in patches:
            patch.stop()
    return recorded


def source(launch: Launch) -> ASTSource:
    """The kernel specialised as Triton's launcher does it: sizes of 1, and multiples of 16."""
    signature, constants, attributes = {}, dict(launch.constants), {}
    for i, name in enumerate(launch.kernel.arg_names):
        value = launch.arguments.get(name)
        if isinstance(value, torch.Tensor):
            signature[name] = f"*{TYPES[value.dtype]}"
        elif isinstance(value, float):
            signature[name], value = "fp32", 1
        elif isinstance(value, int) and value != 1:
            signature[name] = "i32" if value < 2**31 else "i64"
        else:
            signature[name] = "constexpr"
            constants.setdefault(name, value)
        if signature[name] != "constexpr" and (
            isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0)
        ):
            attributes[i,] = [["tt.divisibility", 16]]
    return ASTSource(launch.kernel, signature, constants, attributes)


def compiled(launch: Launch, architecture: int) -> Needs:
    options = {"num_warps": launch.warps, "num_stages": launch.stages, "enable_fp_fusion": True}
    result = triton.compile(source(launch), target=GPUTarget("cuda", architecture, 32), options=options)
    ptx = result.asm["ptx"]
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(result.asm["cubin"])
        file.flush()
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        usage = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack, local = (int(re.search(rf"{what}:(\d+)", usage)[1]) for what in ("REG", "STACK", "LOCAL"))
    wide, tensor = bool(WIDE_LOAD.search(ptx)), bool(TENSOR_CORE.search(ptx))
    return Needs(registers, stack + local, result.metadata.shared, wide, tensor)


def needs(architectures: Sequence[int], words: Sequence[str], once: bool) -> Iterator[tuple[str, Needs]]:
    """(name, needs) of the launches of the cases whose name contains one of `words`, or of all; each kernel `once`."""
    seen = set()
    cases = [(f"{op} {what}", op, what, call) for of_op in CASES for op, what, call in of_op()]
    for title, op, what, call in cases:
        if words and not any(word in title for word in words):
            continue
        for architecture in architectures:
            counts: dict[str, int] = {}
            for launch in launches(call, architecture):
                kernel = launch.kernel.__name__.strip("_")
                counts[kernel] = counts.get(kernel, 0) + 1
                again = f" {counts[kernel]}" if counts[kernel] > 1 else ""
                if not (once and (op, kernel, architecture) in seen):
                    yield f"{op} {kernel}{again} {what} sm_{architecture}", compiled(launch, architecture)
                seen.add((op, kernel, architecture))


def described(name: str, found: Needs) -> str:
    marks = [mark for mark, has in (("16-byte loads", found.wide_loads), ("tensor cores", found.tensor_cores)) if has]
    sizes = f"{found.registers:4d} registers {found.stack:5d} stack {found.shared:7d} shared"
    return f"{name:72s} {sizes}  {', '.join(marks)}"


def complaints(name: str, found: Needs, allowed: dict[str, Any] | None) -> list[str]:
    """What is wrong with a kernel's needs."""
    if allowed is None:
        return [f"{name}: not in {BUDGET.name}"]
    wrong = [f"{found.stack} bytes of stack"] if found.stack else []
    for what in ("registers", "shared"):
        if getattr(found, what) > allowed[what]:
            wrong.append(f"{what} {getattr(found, what)}, allowed {allowed[what]}")
    for what in ("wide_loads", "tensor_cores"):
        if allowed[what] and not getattr(found, what):
            wrong.append(f"no {what.replace('_', ' ')}")
    architecture = int(name.rsplit("_", 1)[1])
    if found.shared > MOST_SHARED[architecture]:
        wrong.append(f"shared {found.shared}, the device has {MOST_SHARED[architecture]}")
    return [f"{name}: {text}" for text in wrong]


def merged(found: Needs, allowed: dict[str, Any] | None) -> dict[str, Any]:
    """The budget that allows what was found and what it allowed before."""
    new = asdict(found)
    del new["stack"]
    for what in ("registers", "shared"):
        new[what] = max(new[what], (allowed or new)[what])
    for what in ("wide_loads", "tensor_cores"):
        new[what] = new[what] and (allowed or new)[what]
    return new


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only cases whose name contains one of these")
    parser.add_argument("--arch", type=int, nargs="+", choices=ARCHITECTURES, help="default: all")
    parser.add_argument("--sample", action="store_true", help="every kernel once")
    parser.add_argument("--write", action="store_true", help="raise the budget to what is found")
    options = parser.parse_args()
    budget = json.loads(BUDGET.read_text()) if BUDGET.exists() else {}
    wrong, count = [], 0
    architectures = options.arch or ((90,) if options.sample else ARCHITECTURES)
    for name, found in needs(architectures, options.words, options.sample):
        count += 1
        marks = ("16-byte loads" if found.wide_loads else "", "tensor cores" if found.tensor_cores else "")
        print(
            f"{name:70s} {found.registers:4d} registers {found.stack:5d} stack {found.shared:7d} shared ",
            *marks,
            flush=True,
        )
        if options.write:
            budget[name] = merged(found, budget.get(name))
        wrong += complaints(name, found, budget.get(name))
    if options.write:
        rows = ",\n".join(f" {json.dumps(name)}: {json.dumps(budget[name])}" for name in sorted(budget))
        BUDGET.write_text(f"{{\n{rows}\n}}\n")
    print("\n".join(wrong))
    print(f"triton {triton.__version__}: {count} kernels compiled, {len(wrong)} outside the budget")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
