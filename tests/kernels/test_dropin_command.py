"""`python -m skelkern.dropin MODULE:FACTORY`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODEL = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 8, (3, 1), padding=(1, 0)), nn.Tanh()), (torch.randn(4, 8, 20, 25),)

def nothing():
    return nn.Tanh()
"""
TIME = r"[\d.]+ ms"


@pytest.fixture
def command(tmp_path):
    (tmp_path / "tiny.py").write_text(MODEL)

    def run(*arguments):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path[1:])])}
        line = [sys.executable, "-m", "skelkern.dropin", *arguments, "--seconds", "0.01"]
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


def test_before_and_after_in_both_settings(command):
    lines = command("tiny:make").stdout.splitlines()
    assert lines[0] == "1 of 1 candidates replaced" and "Conv2d" in lines[1]
    for line, setting in zip(lines[2:], ("default allocator", "memory reused"), strict=True):
        assert re.fullmatch(rf"{setting}: {TIME} before, {TIME} after, [\d.]+x", line)


@pytest.mark.parametrize(("options", "setting"), [((), "default allocator"), (("--reuse",), "memory reused")])
def test_one_alone_with_its_memory(command, options, setting):
    found = command("tiny:make", "--only", "before", *options).stdout
    memory = re.fullmatch(rf"{setting}: {TIME} before, peak resident memory ([\d.]+) GB\n", found)
    assert memory and 0.05 < float(memory[1]) < 20


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tiny",), "expected MODULE:FACTORY, found 'tiny'"),
        (("tiny:nothing",), "expected (model, inputs), found Tanh"),
        (("tiny:make", "--reuse"), "--reuse goes with --only"),
    ],
)
def test_refused(command, arguments, words):
    found = command(*arguments)
    assert found.returncode != 0 and words in found.stderr
