"""Compiles and links with ninja, which rebuilds only what changed."""

import os
import subprocess
import sysconfig
from pathlib import Path

import ninja
import pybind11

from build_support.objects import CSRC, Object, arch_flags, cuda_archs

FLAGS = "-std=c++17 -O3 -fPIC -fopenmp -fvisibility=hidden -ffp-contract=fast -fno-math-errno -Wall -Wextra"
NVCC_FLAGS = "-std=c++17 -O3 -Xcompiler=-fPIC,-fvisibility=hidden,-Wall,-Wextra -Werror=all-warnings"


def ninja_path(path: Path) -> str:
    return str(path.resolve()).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def ninja_file(target: Path, objects: list[Object], flags: str, link: str, nvcc: Path | None) -> str:
    """Compiles all objects and links them into `target`."""
    compiler = os.environ.get("CXX", "g++")
    includes = [CSRC, pybind11.get_include(), sysconfig.get_path("include")]
    include_flags = " ".join(f"-I{ninja_path(Path(path))}" for path in includes)
    lines = [
        f"flags = {FLAGS} {flags} {os.environ.get('CXXFLAGS', '')} {include_flags}",
        "rule compile",
        f"  command = {compiler} $flags $extra -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        f"  command = {compiler} -fopenmp $in -o $out {link} {os.environ.get('LDFLAGS', '')}",
    ]
    if nvcc is not None:
        lines += [
            f"nvcc_flags = {NVCC_FLAGS} {arch_flags(cuda_archs())} -I{ninja_path(CSRC)}",
            "rule nvcc",
            f"  command = {ninja_path(nvcc)} $nvcc_flags $extra -MMD -MF $out.d -c $in -o $out",
            "  depfile = $out.d",
            "  deps = gcc",
        ]
    for row in objects:
        lines += [f"build {ninja_path(row.output)}: {row.rule} {ninja_path(row.source)}", f"  extra = {row.extra}"]
    inputs = " ".join(ninja_path(row.output) for row in objects)
    return "\n".join([*lines, f"build {ninja_path(target)}: link {inputs}", ""])


def run_ninja(
    build: Path, target: Path, objects: list[Object], *, flags: str = "", link: str = "", nvcc: Path | None = None
) -> None:
    """Builds `target`; objects and the ninja file are kept in `build`."""
    build.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    (build / "build.ninja").write_text(ninja_file(target, objects, flags, link, nvcc))
    jobs = ["-j", os.environ["MAX_JOBS"]] if "MAX_JOBS" in os.environ else []
    subprocess.run([Path(ninja.BIN_DIR) / "ninja", "-C", build, *jobs], check=True)
