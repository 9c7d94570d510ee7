"""Builds `skelkern._cpu`: every `csrc/<op>/<op>_cpu.cpp` once per SIMD level, linked into one module.

Needs a C++17 compiler with OpenMP, pybind11 and ninja; no torch. `MAX_JOBS` limits parallel compiles.
`python setup.py sanitize` builds `build/sanitize/native`, all kernels and the checks of tests/native, with sanitizers.
"""

import os
import platform
import subprocess
import sysconfig
from pathlib import Path
from typing import ClassVar

import ninja
import pybind11
from setuptools import Command, Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
CSRC = ROOT / "csrc"
NATIVE = ROOT / "tests" / "native"
FLAGS = "-std=c++17 -O3 -fPIC -fopenmp -fvisibility=hidden -ffp-contract=fast -fno-math-errno -Wall -Wextra"

# Compiler flags of each SIMD level. A level's name is also the namespace of its objects.
X86_LEVELS = {
    "baseline": "",
    "avx2": "-mavx2 -mfma -mf16c",
    "avx512": "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c -mprefer-vector-width=512",
}
ARM_LEVELS = {"baseline": ""}  # NEON is part of every arm64
SANITIZERS = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"


def simd_levels() -> dict[str, str]:
    return X86_LEVELS if platform.machine().lower() in ("x86_64", "amd64") else ARM_LEVELS


def objects(build: Path) -> list[tuple[Path, Path, str]]:
    """(object, source, extra flags) of all kernels and what they share."""
    rows = []
    for source in sorted(CSRC.glob("*/*_cpu.cpp")):
        for level, flags in simd_levels().items():
            rows.append((build / f"{source.stem}.{level}.o", source, f"{flags} -DSKELKERN_LEVEL={level}"))
    shared = sorted(set(CSRC.glob("*/*.cpp")) - {source for _, source, _ in rows})
    return rows + [(build / f"{source.stem}.o", source, "") for source in shared]


def ninja_file(build: Path, target: Path, sources: list[Path], flags: str, link: str) -> str:
    """Compiles all objects and `sources`, and links them into `target`."""
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
        f"  command = {compiler} -fopenmp {link} $in -o $out {os.environ.get('LDFLAGS', '')}",
    ]
    rows = objects(build) + [(build / f"{source.stem}.o", source, "") for source in sources]
    for output, source, extra in rows:
        lines += [f"build {ninja_path(output)}: compile {ninja_path(source)}", f"  extra = {extra}"]
    inputs = " ".join(ninja_path(output) for output, _, _ in rows)
    return "\n".join([*lines, f"build {ninja_path(target)}: link {inputs}", ""])


def ninja_path(path: Path) -> str:
    return str(path.resolve()).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def run_ninja(build: Path, target: Path, sources: list[Path], flags: str, link: str) -> None:
    build.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    (build / "build.ninja").write_text(ninja_file(build, target, sources, flags, link))
    jobs = ["-j", os.environ["MAX_JOBS"]] if "MAX_JOBS" in os.environ else []
    subprocess.run([Path(ninja.BIN_DIR) / "ninja", "-C", build, *jobs], check=True)


class NinjaBuild(build_ext):
    """Compiles with ninja in `build/`, so that an editable install rebuilds only what changed."""

    def build_extension(self, ext: Extension) -> None:
        build = ROOT / "build" / f"cpu-{sysconfig.get_config_var('SOABI')}"
        undefined = "-undefined dynamic_lookup" if platform.system() == "Darwin" else ""
        target = Path(self.get_ext_fullpath(ext.name))
        run_ninja(build, target, sorted(CSRC.glob("bindings_cpu*.cpp")), "", f"-shared {undefined}")


class Sanitize(Command):
    """Builds the native checks with AddressSanitizer and UndefinedBehaviorSanitizer."""

    user_options: ClassVar[list[tuple[str, str, str]]] = []

    def initialize_options(self) -> None:
        pass

    def finalize_options(self) -> None:
        pass

    def run(self) -> None:
        build = ROOT / "build" / "sanitize"
        run_ninja(build, build / "native", sorted(NATIVE.glob("*.cpp")), SANITIZERS, SANITIZERS)


setup(
    ext_modules=[Extension("skelkern._cpu", sources=[])],
    cmdclass={"build_ext": NinjaBuild, "sanitize": Sanitize},
)
