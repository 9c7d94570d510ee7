"""Several processes compute what one does with the joined batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("distributed_cases.py")
ONE_OF_EACH = ("pstl", "hico, transformer", "isc, sequence and graph", "scc")
LARGEST = 1e-9  # in float64; 1e-5 is what the library promises


def differences(out, launcher, *cases):
    """Of all processes, as `distributed_cases.py` finds them."""
    command = [sys.executable, *launcher, *cases, "--out", str(out)]
    found = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return json.loads(out.read_text())


def check(found):
    assert found.pop("shared encoding") == {"features": 0.0}
    for case, values in found.items():
        assert {"loss", "gradients", "parameters"} <= values.keys()
        assert "queues" in values or case.split(",")[0] in ("pstl", "scc")
        assert "buffers" in values or case.startswith("hico")
        assert max(values.values()) < LARGEST, f"{case}: {values}"


def test_two_processes_are_one_with_the_joined_batch(tmp_path):
    found = differences(tmp_path / "out.json", [str(CASES), "--devices", "2"], *ONE_OF_EACH)
    assert len(found) == 5
    check(found)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_every_case_under_torchrun(processes, tmp_path):
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", str(CASES)]
    check(differences(tmp_path / "out.json", launcher))
