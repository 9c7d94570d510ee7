"""The device under test: its name, versions, measured peaks, and how calls on it are timed."""

import functools
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build/gpu_check"  # what the parts leave for each other
ROUNDS = 3  # at least, of every race
LEAST_DRIVER = 580  # that the static CUDA 13 runtime works with

Call = Callable[[], Any]


def target(dry_run: bool) -> torch.device:
    """The GPU; the CPU in a dry run.

    Raises:
        SystemExit: there is no GPU.
    """
    if dry_run:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise SystemExit("no GPU: torch.cuda.is_available() is false (--dry-run runs everything on the CPU)")
    return torch.device("cuda", torch.cuda.current_device())


def description(device: torch.device) -> dict[str, str]:
    """Everything that a time depends on but the sizes."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"dry run on {platform.machine()}",
        "driver": driver(),
        "cudart": cudart(),
        "torch": torch.__version__,
        "triton": triton_version(),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "system": f"{platform.system()} {platform.release()}",
        "commit": commit(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def driver() -> str:
    """Version of the NVIDIA driver."""
    return _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").splitlines()[0]


def cudart() -> str:
    """The runtimes of torch and of `skelkern._cuda`."""
    from skelkern.cuda_kernels import BUILT, cuda_module

    ours = cuda_module().built_for() if BUILT else "skelkern without CUDA"
    return f"torch's {torch.version.cuda or 'none'}; {ours}"


def triton_version() -> str:
    try:
        import triton
    except ImportError:
        return "none"
    return str(triton.__version__)


def commit() -> str:
    """The commit that is checked out; SKELKERN_COMMIT where the files come without their history."""
    return os.environ.get("SKELKERN_COMMIT") or _output("git", "-C", str(ROOT), "describe", "--always", "--dirty")


def _output(*command: str) -> str:
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found or "unknown"


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds_in_turns(calls: dict[str, Call], device: torch.device, seconds: float) -> dict[str, list[float]]:
    """Times of every call, one a round, for about so many seconds; the order rotates.

    On a GPU by events around the call on the current stream: what the stream waits for the CPU to launch counts.
    """
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    end = time.perf_counter() + seconds
    while len(times[names[0]]) < ROUNDS or time.perf_counter() < end:
        for name in names:
            times[name].append(_milliseconds(calls[name], device))
        names = names[1:] + names[:1]
    return times


def _milliseconds(call: Call, device: torch.device) -> float:
    if device.type != "cuda":
        start = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - start)
    torch.cuda.synchronize(device)
    start_event, end_event = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start_event.record()
    call()
    end_event.record()
    end_event.synchronize()
    return start_event.elapsed_time(end_event)


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """20th percentile, median, 80th percentile."""
    ordered = sorted(values)
    low, high = (ordered[round(share * (len(ordered) - 1))] for share in (0.2, 0.8))
    return low, statistics.median(ordered), high


def peak_bytes(call: Call, device: torch.device) -> int:
    """Most bytes that torch's allocator holds at once during a call beyond those before it; 0 in a dry run."""
    if device.type != "cuda":
        call()
        return 0
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def captured(call: Call) -> tuple[Call, Any]:
    """Replays `call` from a CUDA graph; and the results in the graph's memory."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()
    return graph.replay, results


@functools.cache
def copy_bandwidth(device: torch.device) -> float:
    """Bytes read and written per second by a copy of 1 GiB (16 MiB in a dry run)."""
    source = torch.ones((1 << 30 if device.type == "cuda" else 1 << 24) // 4, device=device)
    copy = torch.empty_like(source)
    times = milliseconds_in_turns({"copy": lambda: copy.copy_(source)}, device, 0.2)["copy"]
    return 2 * source.nbytes / (1e-3 * spread(times)[1])


@functools.cache
def product_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of torch's product of square matrices (8192; 256 in a dry run).

    float32 at full precision: what eager code at equal precision can reach.
    """
    n = 8192 if device.type == "cuda" else 256
    a = torch.randn(n, n, device=device).to(dtype)
    times = milliseconds_in_turns({"product": lambda: a @ a}, device, 0.5)["product"]
    return 2 * n**3 / (1e-3 * spread(times)[1])
