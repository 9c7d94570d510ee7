"""Builds `skelkern._cpu`: every `csrc/<op>/<op>_cpu.cpp` once per SIMD level, linked into one module.

Where nvcc is found, also `skelkern._cuda` from every `csrc/<op>/<op>.cu`; CUDA's runtime is linked statically, so that
the module imports without a driver. Needs a C++17 compiler with OpenMP, pybind11 and ninja; no torch.

    MAX_JOBS             most compilers at a time
    SKELKERN_CUDA        auto (if nvcc is found), 0 (never) or 1 (fail without nvcc)
    SKELKERN_CUDA_ARCHS  compute capabilities, 80,90 unless told; PTX of the newest is added

`python setup.py sanitize` builds `build/sanitize/native`, all kernels and the checks of tests/native, with sanitizers;
those of the GPU are emulated.
"""

import platform
import sys
import sysconfig
from pathlib import Path
from typing import ClassVar

from setuptools import Command, Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).parent))  # not there in an isolated build

from build_support.ninja_build import run_ninja
from build_support.objects import (
    CSRC,
    ROOT,
    cpu_objects,
    cuda_archs,
    cuda_objects,
    emulated_objects,
    find_nvcc,
    plain_objects,
)

NATIVE = ROOT / "tests" / "native"
SANITIZERS = "-O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all"
NVCC = find_nvcc()


class NinjaBuild(build_ext):
    """Compiles with ninja in `build/`, so that an editable install rebuilds only what changed."""

    def run(self) -> None:
        if NVCC is None:
            print("skelkern: without CUDA kernels, as nvcc was not found in CUDA_HOME or on PATH, or SKELKERN_CUDA=0")
        super().run()

    def build_extension(self, ext: Extension) -> None:
        kind = ext.name.rpartition("_")[2]
        build = ROOT / "build" / f"{kind}-{sysconfig.get_config_var('SOABI')}"
        target = Path(self.get_ext_fullpath(ext.name))
        bindings = plain_objects(build, sorted(CSRC.glob(f"bindings_{kind}*.cpp")))
        if kind == "cpu":
            undefined = "-undefined dynamic_lookup" if platform.system() == "Darwin" else ""
            run_ninja(build, target, cpu_objects(build) + bindings, link=f"-shared {undefined}")
        elif NVCC is not None:
            libraries = " ".join(f"-L{NVCC.parents[1] / folder}" for folder in ("lib64", "lib"))
            link = f"-shared {libraries} -lcudart_static -ldl -lrt -lpthread -Wl,--exclude-libs,ALL"
            flags = f"""-DSKELKERN_CUDA_BUILD='"compute capability {", ".join(cuda_archs())}"'"""
            run_ninja(build, target, cuda_objects(build) + bindings, flags=flags, link=link, nvcc=NVCC)


class Sanitize(Command):
    """Builds the native checks with AddressSanitizer and UndefinedBehaviorSanitizer."""

    user_options: ClassVar[list[tuple[str, str, str]]] = []

    def initialize_options(self) -> None:
        pass

    def finalize_options(self) -> None:
        pass

    def run(self) -> None:
        build = ROOT / "build" / "sanitize"
        checks = plain_objects(build, sorted(NATIVE.glob("*.cpp")))
        objects = cpu_objects(build) + emulated_objects(build) + checks
        run_ninja(build, build / "native", objects, flags=f"{SANITIZERS} -DSKELKERN_EMULATED", link=SANITIZERS)


setup(
    ext_modules=[Extension(f"skelkern._{kind}", sources=[]) for kind in ("cpu", "cuda") if kind == "cpu" or NVCC],
    cmdclass={"build_ext": NinjaBuild, "sanitize": Sanitize},
)
