"""Runs the tests of every op that has Triton kernels through Triton's interpreter, in a process of their own."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import skelkern
from skelkern import gpu

ROOT = Path(__file__).parents[2]
OPS = sorted(path.parent.name for path in (ROOT / "skelkern/ops").glob("*/triton.py"))
needs_triton = pytest.mark.skipif(
    not gpu.TRITON_INSTALLED, reason="triton is not installed: pip install -e '.[triton]'"
)


def run_interpreted(module):
    """The tests of a module over Triton's interpreter, in a process of one thread."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--impl", "triton"]
    paths = os.pathsep.join([str(ROOT), *sys.path[1:]])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    return subprocess.run(
        [*command, f"tests/kernels/{module}.py"], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def interpreted(request):
    """What `run_interpreted` will return, by module, for those that are to run; one on every core at once."""
    wanted = (item for item in request.session.items if getattr(item, "originalname", "") == "test_interpreted")
    modules = [item.callspec.params["module"] for item in wanted]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {module: pool.submit(run_interpreted, module) for module in modules}


@needs_triton
@pytest.mark.skipif(gpu.INTERPRETED, reason="runs in the process that this test starts")
@pytest.mark.parametrize(
    "module",
    [
        *(f"test_{op}" for op in OPS),
        "test_blocks",
        "test_guards",
        pytest.param("test_every_op", marks=pytest.mark.slow),  # minutes of a core
    ],
)
def test_interpreted(module, interpreted):
    found = interpreted[module].result()
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
    assert " passed" in found.stdout


@needs_triton
@pytest.mark.skipif(gpu.INTERPRETED, reason="an interpreted kernel cannot be compiled")
def test_compiled_ahead_of_time_within_the_budget():
    """A sample; `python tests/kernels/triton_budget.py` compiles all."""
    command = [sys.executable, "tests/kernels/triton_budget.py", "--sample"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
    assert " 0 outside the budget" in found.stdout


def test_reasons_against_triton(monkeypatch):
    """What `explain` says on a machine without a GPU, without Triton, and with the interpreter."""
    x = torch.zeros(2, 4)
    monkeypatch.setattr(gpu, "INTERPRETED", False)
    monkeypatch.setattr(gpu, "TRITON_INSTALLED", True)
    assert "not triton: a tensor is on cpu" in str(skelkern.explain(skelkern.info_nce, x, x, x))
    with pytest.raises(ValueError, match="impl='triton' cannot run here: a tensor is on cpu"):
        skelkern.info_nce(x, x, x, impl="triton")
    monkeypatch.setattr(gpu, "TRITON_INSTALLED", False)
    assert "triton is not installed" in str(skelkern.explain(skelkern.info_nce, x, x, x))
    monkeypatch.setattr(gpu, "TRITON_INSTALLED", True)
    monkeypatch.setattr(gpu, "INTERPRETED", True)
    assert "not triton: TRITON_INTERPRET=1 runs" in str(skelkern.explain(skelkern.info_nce, x, x, x))
    assert skelkern.explain(skelkern.info_nce, x, x, x, impl="triton").chosen == "triton"
