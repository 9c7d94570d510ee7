"""Launches of the compiled kernels that `triton_support.launch` keeps, on a driver that records them.

Triton compiles as for a device of compute capability 9.0. What a kernel's launcher gets, and which kernel it is, must
be what Triton's own launch gives it.
"""

import itertools
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from skelkern import gpu

if gpu.INTERPRETED or not gpu.TRITON_INSTALLED:
    pytest.skip("needs triton without TRITON_INTERPRET", allow_module_level=True)

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from skelkern import triton_support


@triton.jit
def probe_kernel(x, y, n, scale, missing, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    value = tl.load(x + i, i < n).to(tl.float32) * scale
    if missing is not None:
        value += tl.load(missing + i, i < n)
    if WIDE:
        value += n
    tl.store(y + i, value, i < n)


class RecordingDriver:
    """What Triton needs of a driver; `launches` are what launchers got and what their kernels are compiled for."""

    def __init__(self):
        self.launches = []
        self.utils = SimpleNamespace(
            load_binary=lambda name, binary, shared, device: (object(), binary, 32, 0, 1024),
            unload_module=lambda module: None,
            get_device_properties=lambda device: {"max_shared_mem": 227 << 10},
        )

    def launcher_cls(self, source, metadata):
        compiled_for = (source.signature, source.constants, source.attrs)
        return lambda *arguments: self.launches.append((*arguments, *compiled_for))

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 12345

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)


RECORDER = RecordingDriver()  # Triton keeps the kernels that it has loaded


@pytest.fixture
def recording(monkeypatch):
    RECORDER.launches = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(triton_support, "_compiled", {})
    monkeypatch.setattr(driver, "_active", RECORDER)
    return RECORDER


def calls():
    """Arguments that differ in what kernels are specialised by: dtype, alignment, None, 1, multiples of 16, width."""
    memory = torch.zeros(64)
    half = memory.half()
    for x, n in itertools.product(
        (memory, memory[1:], half, half[3:]), (1, 16, 17, 2**31 - 1, 2**31, 2**31 + 1, 2**40, 2**63, -16, 0)
    ):
        yield (x, memory, n, 0.5, None), {"WIDE": False, "BLOCK": 16}
    yield (memory, memory, 17, 1.0, memory), {"WIDE": False, "BLOCK": 16}
    yield (memory, memory, 17, 1.0, memory[1:]), {"WIDE": True, "BLOCK": 16}
    yield (memory, memory, 17, 1.0, None), {"BLOCK": 32, "WIDE": False}


METADATA = 6  # place of what is only for hooks among a launcher's arguments, made anew for every launch


def test_kept_kernels_are_those_that_triton_would_take(recording):
    options = {"num_warps": 2, "num_stages": 1, "enable_fp_fusion": True}
    cases, device = list(calls()), torch.device("cuda", 0)
    for arguments, constants in cases:
        probe_kernel[(3,)](*arguments, **options, **constants)
    expected, recording.launches = recording.launches, []
    for arguments, constants in 2 * cases:
        triton_support.launch(probe_kernel, (3,), *arguments, device=device, warps=2, **constants)
    for found, other in zip(recording.launches, 2 * expected, strict=True):
        assert len(found) == len(other)
        for place, (ours, theirs) in enumerate(zip(found, other, strict=True)):
            assert ours is theirs or place == METADATA or (type(ours) is type(theirs) and ours == theirs)
    assert len(triton_support._compiled) < len(cases)


def test_kept_kernels_are_launched_without_a_search(recording, monkeypatch):
    arguments = (torch.zeros(16), torch.zeros(16), 5, 1.0, None)
    options = {"device": torch.device("cuda", 0), "warps": 2, "WIDE": False, "BLOCK": 16}
    triton_support.launch(probe_kernel, (2, 3), *arguments, **options)
    monkeypatch.setattr(type(probe_kernel), "run", None)
    triton_support.launch(probe_kernel, (4, 5), *arguments, **options)
    assert [launch[:4] for launch in recording.launches] == [(2, 3, 1, 12345), (4, 5, 1, 12345)]
    with pytest.raises(TypeError):
        triton_support.launch(probe_kernel, (4, 5), *arguments, **{**options, "BLOCK": 32})
