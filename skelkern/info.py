"""`python -m skelkern.info`: what was built, what this machine has, and which implementation of each op would run."""

import os
import platform
from pathlib import Path

import numpy
import torch

import skelkern
from skelkern import _cpu
from skelkern.cuda_kernels import BUILT, cuda_module
from skelkern.dispatch import OPS, explain_tensors


def openmp_libraries() -> list[str]:
    """Paths of the OpenMP runtimes mapped into this process; empty where the system does not tell."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return []
    paths = {line.split(maxsplit=5)[5] for line in maps.read_text().splitlines() if len(line.split()) > 5}
    return sorted(path for path in paths if any(name in Path(path).name for name in ("libgomp", "libomp", "libiomp")))


def devices() -> list[str]:
    """The processor and every CUDA device."""
    found = [f"cpu ({platform.machine()}, {os.cpu_count()} logical cores)"]
    for i in range(torch.cuda.device_count()):
        found.append(f"cuda:{i} ({torch.cuda.get_device_name(i)})")
    return found


def report() -> str:
    """The whole report as text."""
    libraries = openmp_libraries()
    lines = [
        f"skelkern {skelkern.__version__}, torch {torch.__version__}, NumPy {numpy.__version__}, "
        f"Python {platform.python_version()}",
        f"compiler: {_cpu.compiler()}",
        f"CPU level: {_cpu.level()} (SKELKERN_CPU_LEVEL lowers it)",
        f"threads: {torch.get_num_threads()} (torch.set_num_threads)",
        f"OpenMP: {', '.join(libraries) or 'not found'}",
        f"CUDA kernels: {cuda_module().built_for() if BUILT else 'none in this build'}",
        f"devices: {'; '.join(devices())}",
    ]
    if len(libraries) > 1:
        lines.append("warning: more than one OpenMP runtime is mapped; their thread pools compete for the cores")
    tensor = torch.empty(0)
    lines += ["", "float32 tensors on the CPU:"]
    lines += [str(explain_tensors(op, "auto", tensor)) for op in OPS.values()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(report())
