"""Registers, stack and shared memory of every CUDA kernel, as ptxas states them; no GPU is needed.

`python tests/gpu/cuda_resources.py` compiles everything and prints what exceeds `cuda_budget.json`; `--write` makes
what it finds the budget.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUDGET = Path(__file__).with_name("cuda_budget.json")
ARCHS = ("sm_80", "sm_90")

sys.path.insert(0, str(ROOT))

from build_support.objects import find_nvcc  # noqa: E402  of this tree, not installed

Resources = dict[str, int]


def sources() -> list[Path]:
    return sorted((ROOT / "csrc").glob("*/*.cu"))


def resources(source: Path, arch: str) -> dict[str, Resources]:
    """By kernel: registers of a thread, bytes of its stack and of a block's shared memory."""
    options = ["-std=c++17", "-O3", f"-arch={arch}", "-Xptxas=-v", "-cubin", "-o", "/dev/null", f"-I{ROOT / 'csrc'}"]
    found = subprocess.run([str(find_nvcc()), *options, str(source)], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise RuntimeError(found.stderr)
    text = subprocess.run(["c++filt"], input=found.stderr, capture_output=True, text=True, check=True).stdout
    kernels = {}
    for part in text.split("Compiling entry function '")[1:]:
        name = part.split("'")[0].replace("(anonymous namespace)::", "").replace("skelkern::", "")
        name = re.sub(r"^void ", "", re.sub(r"\(.*", "", name))
        kernels[name] = {
            "registers": _number(r"Used (\d+) registers", part),
            "stack": _number(r"(\d+) bytes stack frame", part),
            "shared": _number(r"(\d+) bytes smem", part),
        }
    return kernels


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found.group(1)) if found else 0


def excesses(found: dict[str, Resources], budget: dict[str, Resources]) -> list[str]:
    """What a file's kernels use beyond their budget, in words; a stack is never in it."""
    lines = [f"{name}: {used['stack']} bytes of stack" for name, used in found.items() if used["stack"] > 0]
    if found.keys() != budget.keys():
        lines.append(f"kernels: expected {sorted(budget)}, found {sorted(found)}")
    for name in found.keys() & budget.keys():
        for what in ("registers", "shared"):
            if found[name][what] > budget[name][what]:
                lines.append(f"{name}: {found[name][what]} {what}, budget {budget[name][what]}")
    return sorted(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="make what is found the budget")
    write = parser.parse_args().write
    found = {arch: {source.stem: resources(source, arch) for source in sources()} for arch in ARCHS}
    if write:
        BUDGET.write_text(json.dumps(found, indent=1) + "\n")
    budget = json.loads(BUDGET.read_text())
    failed = 0
    for arch, files in found.items():
        for stem, kernels in files.items():
            for name, used in kernels.items():
                print(f"{arch} {name}: {used['registers']} registers, {used['shared']} bytes shared")
            for line in excesses(kernels, budget.get(arch, {}).get(stem, {})):
                print(f"{arch} over budget: {line}")
                failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
