"""The rules of CONTRIBUTING.md that a script can check."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OPS = sorted(path.name for path in (ROOT / "skelkern/ops").iterdir() if (path / "__init__.py").exists())
LEVELS = ("baseline", "avx2", "avx512")


def imported_modules(source: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_its_five_places(op):
    places = [
        f"csrc/{op}/{op}.h",
        f"csrc/{op}/{op}_cpu.cpp",
        f"skelkern/ops/{op}/__init__.py",
        f"skelkern/ops/{op}/reference.py",
        f"tests/kernels/test_{op}.py",
        f"benchmarks/bench_{op}.py",
    ]
    assert [place for place in places if not (ROOT / place).exists()] == []
    assert re.search(rf"^#+ .*\b{op}\b", (ROOT / "docs/ops.md").read_text(), re.MULTILINE), "no section in docs/ops.md"


def test_skelkern_never_imports_skelssl():
    offenders = [path for path in (ROOT / "skelkern").rglob("*.py") if "skelssl" in imported_modules(path)]
    assert offenders == []


def test_compiled_sources_include_no_torch_header():
    sources = [path for path in (ROOT / "csrc").rglob("*") if path.suffix in {".h", ".cpp", ".cu", ".cuh"}]
    assert sources
    pattern = re.compile(r"#\s*include\s*[<\"](torch|ATen|c10)/")
    assert [path for path in sources if pattern.search(path.read_text())] == []


def test_import_brings_torch_and_numpy_only():
    script = (
        "import sys, torch, numpy; before = {name.split('.')[0] for name in sys.modules}; import skelkern;"
        "print(*sorted({name.split('.')[0] for name in sys.modules} - before))"
    )
    found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["skelkern"]


def level_objects() -> list[Path]:
    return [path for level in LEVELS for path in ROOT.glob(f"build/cpu-*/*.{level}.o")]


@pytest.mark.skipif(not level_objects(), reason="the objects of the build are not here (installed from a wheel)")
def test_level_files_define_no_weak_symbols():
    """The linker keeps one copy of a weak symbol: it could put AVX-512 code into the baseline path."""
    for path in level_objects():
        symbols = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout
        weak = [line for line in symbols.splitlines() if line.split()[-2] in {"W", "V", "u"}]
        assert weak == [], f"{path.name}: {weak[:3]}"


def functions(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_files_and_functions_are_short():
    python = [p for folder in ("skelkern", "skelssl", "tests", "benchmarks") for p in (ROOT / folder).rglob("*.py")]
    compiled = [p for p in (ROOT / "csrc").rglob("*") if p.is_file()]
    assert [p for p in python + compiled if len(p.read_text().splitlines()) > 600] == []
    assert [(p.name, name) for p in python for name, lines in functions(p) if lines > 80] == []
    assert len((ROOT / "setup.py").read_text().splitlines()) < 150


def test_readme_has_one_line_commands_for_a_fresh_machine():
    commands = re.findall(r"^python3 -m venv .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert all('"torch==2.13.0"' in command for command in commands), "the tested torch is pinned"
    assert len(commands) == 2
    assert commands[0].endswith("skelssl quickstart")
    assert commands[1].endswith("pytest")
