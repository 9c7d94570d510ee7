"""Memory that is kept: of large results, never more than they have needed at once, and of torch when asked."""

import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import skelkern
from skelkern import _cpu
from skelkern.memory import empty_output

ROOT = Path(__file__).parents[2]
MIB = 2**20


@pytest.fixture(autouse=True)
def nothing_kept():
    skelkern.empty_cache()
    yield
    skelkern.empty_cache()


def result(mebibytes):
    return empty_output(mebibytes * MIB // 4)


def test_memory_of_a_dead_result_is_used_again():
    first = result(8)
    place = first.data_ptr()
    del first
    assert result(8).data_ptr() == place
    assert result(7).data_ptr() == place, "a little smaller"


def test_memory_in_use_is_not_shared():
    before = _cpu.result_bytes()
    results = [result(4) for _ in range(3)]
    for number, each in enumerate(results):
        each.fill_(number)
    assert [int(each.unique()) for each in results] == [0, 1, 2]
    assert _cpu.result_bytes() - before == 12 * MIB


def test_views_keep_their_memory():
    view = result(8)[:10].fill_(7.0)
    other = result(8).fill_(0.0)
    assert other.data_ptr() != view.data_ptr()
    assert bool((view == 7).all())


def test_never_more_than_results_have_needed_at_once():
    before = _cpu.result_bytes()
    peak = [result(20), result(30)]
    del peak
    for size in (4, 50, 2, 26, 10, 48):
        result(size)
        assert _cpu.result_bytes() - before <= 50 * MIB


def test_empty_cache_frees_dead_results_only():
    before = _cpu.result_bytes()
    alive, dead = result(8), result(16)
    del dead
    skelkern.empty_cache()
    assert _cpu.result_bytes() - before == 8 * MIB
    alive.fill_(1.0)


def test_results_may_outlive_the_interpreter():
    script = """
import torch, skelkern
z = torch.randn(64, 20_000, requires_grad=True)
kept = torch.autograd.grad(skelkern.cross_correlation_loss(z, z, 1e-3), z)
import builtins; builtins.kept = kept
print('alive')
"""
    assert run(script).stdout == "alive\n"  # and `run` asserts a clean exit


def test_ordinary_torch_operations_on_results():
    tensor = result(4).fill_(1.0)
    assert torch.equal(tensor.add_(1).clone(), torch.full_like(tensor, 2.0))
    assert tensor.share_memory_().is_shared()


FAULTS = """
import resource, torch, skelkern

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.empty(20_000_000).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident_pages():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1])

by_default = faults()
assert not skelkern.reuse_memory()
for _ in range(4):  # until free blocks have grown together
    faults()
reused, kept = faults(), resident_pages()
assert skelkern.reuse_memory(False)
print(by_default, reused, kept - resident_pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs the GNU C library")
def test_reuse_memory_spares_page_faults_and_gives_all_back_in_the_end():
    by_default, reused, given_back = map(int, run(FAULTS).stdout.split())
    assert reused < 0.01 * by_default
    assert given_back * resource.getpagesize() > 0.9 * 80e6


def run(script):
    found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")
    return found
