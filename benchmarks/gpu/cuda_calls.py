"""Calls every CUDA kernel once, forward and backward, at small odd sizes: what compute-sanitizer watches."""

import argparse
import sys
from typing import Any

import torch

from gpu import device

sys.path.insert(0, str(device.ROOT / "tests/kernels"))

from cases import CASES, OpCase

import skelkern
from skelkern.dispatch import OPS


def call(case: OpCase, impl: str, target: torch.device) -> None:
    """The op on a case's inputs, and the gradients of all that have one."""
    inputs = {name: _moved(value, target) for name, value in case.make_inputs(0).items()}
    leaves = [inputs[name].requires_grad_() for name in case.differentiable]
    with skelkern.use(impl):
        found = case.function(**inputs)
        outputs = [y for y in (found if isinstance(found, tuple) else (found,)) if isinstance(y, torch.Tensor)]
        if leaves:
            torch.autograd.grad(sum(y.float().sum() for y in outputs if y.requires_grad), leaves, allow_unused=True)
    device.synchronize(target)


def _moved(value: Any, target: torch.device) -> Any:
    return value.detach().to(target) if isinstance(value, torch.Tensor) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="call the CPU's kernels of the same ops")
    arguments = parser.parse_args()
    target, impl = device.target(arguments.dry_run), "cpu" if arguments.dry_run else "cuda"
    for case in CASES:
        if any(implementation.name == "cuda" for implementation in OPS[str(case)].implementations):
            call(case, impl, target)
            print(f"{case}: called", flush=True)


if __name__ == "__main__":
    main()
