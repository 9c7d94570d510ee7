import os
import subprocess
import sys

import pytest

from skelkern import _cpu

LANES = {"baseline": 4, "avx2": 8, "avx512": 16}


def test_counts_two_operations_a_lane():
    lanes = LANES[_cpu.level()]
    chains = _cpu.multiply_add(1, 1) / (2 * lanes)
    assert chains == int(chains) > 0
    assert _cpu.multiply_add(1000, 2) == 2 * 1000 * _cpu.multiply_add(1, 1)


@pytest.mark.parametrize("level", LANES)
def test_every_level_runs(level):
    environment = os.environ | {"SKELKERN_CPU_LEVEL": level}
    script = "from skelkern import _cpu; print(_cpu.level(), _cpu.multiply_add(1000, 1) > 0)"
    command = [sys.executable, "-c", "import torch; " + script]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if found.returncode != 0 and "SKELKERN_CPU_LEVEL" in found.stderr:
        pytest.skip(f"this processor has no {level}")
    assert found.stdout.split() == [level, "True"], found.stderr
