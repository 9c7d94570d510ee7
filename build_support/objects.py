"""What is compiled how: kernels of the CPU once per SIMD level, those of the GPU by nvcc or, emulated, for the CPU."""

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
CSRC = ROOT / "csrc"

# Compiler flags of each SIMD level. A level's name is also the namespace of its objects.
X86_LEVELS = {
    "baseline": "",
    "avx2": "-mavx2 -mfma -mf16c",
    "avx512": "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c -mprefer-vector-width=512",
}
ARM_LEVELS = {"baseline": ""}  # NEON is part of every arm64
CUDA_ARCHS = "80,90"


@dataclass(frozen=True)
class Object:
    """A file to be compiled by one of the rules of `ninja_file`, with flags of its own."""

    output: Path
    source: Path
    extra: str = ""
    rule: str = "compile"


def simd_levels() -> dict[str, str]:
    return X86_LEVELS if platform.machine().lower() in ("x86_64", "amd64") else ARM_LEVELS


def cpu_objects(build: Path) -> list[Object]:
    """All kernels of the CPU and what they share."""
    rows = []
    for source in sorted(CSRC.glob("*/*_cpu.cpp")):
        for level, flags in simd_levels().items():
            rows.append(Object(build / f"{source.stem}.{level}.o", source, f"{flags} -DSKELKERN_LEVEL={level}"))
    shared = sorted(set(CSRC.glob("*/*.cpp")) - {row.source for row in rows})
    return rows + plain_objects(build, shared)


def plain_objects(build: Path, sources: list[Path]) -> list[Object]:
    return [Object(build / f"{source.stem}.o", source) for source in sources]


def cuda_objects(build: Path) -> list[Object]:
    """All kernels of the GPU."""
    return [Object(build / f"{source.stem}.o", source, rule="nvcc") for source in sorted(CSRC.glob("*/*.cu"))]


def emulated_objects(build: Path) -> list[Object]:
    """The kernels of the GPU for the CPU (`csrc/common/cuda_emulation.h`)."""
    flags = "-x c++ -Wno-unknown-pragmas"
    return [Object(build / f"{source.stem}.emulated.o", source, flags) for source in sorted(CSRC.glob("*/*.cu"))]


def find_nvcc() -> Path | None:
    """The compiler that `SKELKERN_CUDA` (auto, 0 or 1) asks for; None builds without CUDA."""
    wanted = os.environ.get("SKELKERN_CUDA", "auto")
    if wanted not in ("auto", "0", "1"):
        raise SystemExit(f"SKELKERN_CUDA: expected auto, 0 or 1, found {wanted}")
    if wanted == "0":
        return None
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if name in os.environ] + ["/usr/local/cuda"]
    found = next((path for home in homes if (path := shutil.which("nvcc", path=f"{home}/bin"))), shutil.which("nvcc"))
    if found is None and wanted == "1":
        raise SystemExit("SKELKERN_CUDA=1: nvcc is neither in CUDA_HOME/bin nor on PATH")
    return None if found is None else Path(found).resolve()


def cuda_archs() -> list[str]:
    """Compute capabilities to compile for, such as ["80", "90"], rising."""
    named = os.environ.get("SKELKERN_CUDA_ARCHS", CUDA_ARCHS).replace(";", ",").replace("sm_", "").replace(".", "")
    archs = [arch.strip() for arch in named.split(",") if arch.strip()]
    if not archs or not all(arch.rstrip("af").isdigit() for arch in archs):
        raise SystemExit(f"SKELKERN_CUDA_ARCHS: expected capabilities such as {CUDA_ARCHS}, found {named!r}")
    return sorted(archs, key=lambda arch: int(arch.rstrip("af")))


def arch_flags(archs: list[str]) -> str:
    """Machine code of every architecture, and PTX of the newest for those to come."""
    codes = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in archs]
    return " ".join([*codes, f"-gencode=arch=compute_{archs[-1]},code=compute_{archs[-1]}"])
