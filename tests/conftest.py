"""`--impl NAME`: the tests of ops over one implementation, in the place of the CPU's kernels."""

import os

import on_device
import pytest
import torch

INTERPRETER_LIMIT = "more than the interpreter gets through"
NO_GPU = "no GPU: torch.cuda.is_available() is False"


def pytest_addoption(parser):
    parser.addoption("--impl", default="cpu", choices=["cpu", "triton", "cuda"], help="implementation under test")


def pytest_configure(config):
    if config.getoption("--impl") != "cpu":
        os.environ["SKELKERN_IMPL"] = config.getoption("--impl")
    if needs_gpu(config) and torch.cuda.is_available():
        os.environ["SKELKERN_CHECKS"] = "1"  # errors about values as on a CPU
        on_device.TensorsOfTests("cuda").stay()


def needs_gpu(config):
    """Whether the implementation under test takes the tensors of a GPU alone."""
    impl = config.getoption("--impl")
    return impl == "cuda" or (impl == "triton" and "TRITON_INTERPRET" not in os.environ)


def pytest_collection_modifyitems(config, items):
    impl = config.getoption("--impl")
    for item in items:
        if impl != "cpu" and item.get_closest_marker("cpu_kernel"):
            item.add_marker(pytest.mark.skip(reason="about the CPU's kernel"))
        if needs_gpu(config) and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason=NO_GPU))
        if impl == "triton" and "TRITON_INTERPRET" in os.environ and item.get_closest_marker("large"):
            item.add_marker(pytest.mark.skip(reason=INTERPRETER_LIMIT))


def pytest_generate_tests(metafunc):
    """`impl` runs over the implementation under test and the reference."""
    given = any("impl" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "impl" in metafunc.fixturenames and not given:
        metafunc.parametrize("impl", [metafunc.config.getoption("--impl"), "reference"])


@pytest.fixture(autouse=True)
def guarded_kernels(request, monkeypatch):
    """Where kernels are interpreted: canaries around every buffer, and NaN in results before they are written."""
    if request.config.getoption("--impl") == "triton" and "TRITON_INTERPRET" in os.environ:
        import guards
        import interpreter

        guards.guard(monkeypatch)
        interpreter.spare_repetitions(monkeypatch)
    yield


@pytest.fixture
def kernel(request):
    """Name of the implementation under test."""
    return request.config.getoption("--impl")
