"""Kernels stay within their registers and shared memory, and never use a stack; the file for everything is slow."""

import json

import pytest
from cuda_resources import ARCHS, BUDGET, excesses, find_nvcc, resources, sources

needs_nvcc = pytest.mark.skipif(find_nvcc() is None, reason="nvcc is not installed")
SAMPLE = [("farthest_points", "sm_90")]
EVERYTHING = [(source.stem, arch) for source in sources() for arch in ARCHS]


@needs_nvcc
@pytest.mark.parametrize(
    ("stem", "arch"), [pytest.param(*one, marks=[] if one in SAMPLE else pytest.mark.slow) for one in EVERYTHING]
)
def test_kernels_stay_within_their_budget(stem, arch):
    (source,) = (source for source in sources() if source.stem == stem)
    assert excesses(resources(source, arch), json.loads(BUDGET.read_text())[arch][stem]) == []


def test_every_file_has_a_budget_without_stack():
    budget = json.loads(BUDGET.read_text())
    assert {(stem, arch) for arch, files in budget.items() for stem in files} == set(EVERYTHING)
    assert all(
        used["stack"] == 0 for files in budget.values() for kernels in files.values() for used in kernels.values()
    )


def test_excess_is_named():
    budget = {"k": {"registers": 32, "stack": 0, "shared": 0}}
    found = {"k": {"registers": 33, "stack": 8, "shared": 0}}
    assert excesses(found, budget) == ["k: 33 registers, budget 32", "k: 8 bytes of stack"]
    assert "kernels: expected ['k']" in excesses({}, budget)[0]
