"""What every op must hold: determinism, SIMD levels, forks, threads, torch.compile, torch's own op checks."""

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from budget import evaluate, relative_error
from cases import CASES, OpCase
from on_device import as_usual
from torch.utils._python_dispatch import TorchDispatchMode

import skelkern
from skelkern import _cpu
from skelkern.dispatch import OPS

ROOT = Path(__file__).parents[2]
LEVELS = ("baseline", "avx2", "avx512")
every_op = pytest.mark.parametrize("case", CASES, ids=str)
differentiable_ops = pytest.mark.parametrize("case", [c for c in CASES if c.differentiable], ids=str)


@pytest.fixture(autouse=True)
def only_ops_with_the_kernel(request, kernel):
    case = getattr(request.node, "callspec", None) and request.node.callspec.params.get("case")
    if case and all(implementation.name != kernel for implementation in OPS[str(case)].implementations):
        pytest.skip(f"{case} has no {kernel} implementation")


def results(case: OpCase, seed: int = 0, kernel: str = "cpu", **options) -> list[torch.Tensor]:
    with skelkern.use(kernel):
        return list(evaluate(case.function, case.make_inputs(seed), case.differentiable, seed, **options).values())


def assert_bitwise_equal(first, second):
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


def test_every_op_has_a_case():
    assert {case.function.__name__ for case in CASES} == set(OPS)


@every_op
def test_bitwise_equal_for_any_thread_count(case, kernel):
    before = torch.get_num_threads()
    try:
        by_threads = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            by_threads.append(results(case, kernel=kernel))
    finally:
        torch.set_num_threads(before)
    assert_bitwise_equal(by_threads[0], by_threads[1])
    assert_bitwise_equal(by_threads[0], by_threads[2])


@pytest.mark.cpu_kernel
@every_op
def test_concurrent_python_threads_do_not_mix(case):
    expected = [results(case, seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: results(case, i % 4), range(16)))
    for i, result in enumerate(found):
        assert_bitwise_equal(result, expected[i % 4])


def _send_results(connection, case):
    connection.send([tensor.tolist() for tensor in results(case)])


@pytest.mark.cpu_kernel
@every_op
def test_forked_child_computes_the_same(case):
    expected = [tensor.tolist() for tensor in results(case)]
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send_results, args=(sender, case))
    child.start()
    try:
        assert receiver.poll(60), "the forked child hangs"
        assert receiver.recv() == expected
    finally:
        child.kill()
        child.join()


SAVE_RESULTS = """
import sys, torch
sys.path[:0] = ["tests", "tests/kernels"]
from test_every_op import CASES, results
torch.save({str(case): results(case) for case in CASES}, sys.argv[1])
"""


@pytest.mark.cpu_kernel
@pytest.mark.parametrize("level", LEVELS[: LEVELS.index(_cpu.level()) + 1])
def test_simd_level_agrees_with_the_reference(level, tmp_path):
    environment = {**os.environ, "SKELKERN_CPU_LEVEL": level, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SAVE_RESULTS, str(tmp_path / "results.pt")]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    found = torch.load(tmp_path / "results.pt")
    for case in CASES:
        expected = results(case, impl="reference")
        for ours, reference in zip(found[str(case)], expected, strict=True):
            assert relative_error(ours, reference) < 32 * torch.finfo(torch.float32).eps


@pytest.mark.cpu_kernel
def test_unknown_simd_level_is_named():
    environment = {**os.environ, "SKELKERN_CPU_LEVEL": "sse9"}
    command = [sys.executable, "-c", "from skelkern import _cpu; _cpu.level()"]
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert found.returncode != 0
    assert "expected baseline, avx2 or avx512, found sse9" in found.stderr


class RecordKernels(TorchDispatchMode):
    """Collects every skelkern op that runs, with its arguments."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if op.namespace == "skelkern":
            self.calls.append((op, args))
        return op(*args, **(kwargs or {}))


@every_op
def test_torch_opcheck(case, kernel):
    with RecordKernels() as record:
        results(case, kernel=kernel)
    assert record.calls, "no kernel ran"
    utilities = ("test_schema", "test_faketensor", "test_autograd_registration")
    for op, args in record.calls:
        torch.library.opcheck(op, args, test_utils=utilities)


@differentiable_ops
def test_opcheck_of_the_gradient_under_aot_dispatch(case, kernel):
    inputs = case.make_inputs(0)
    with RecordKernels() as record, skelkern.use(kernel):
        case.function(**{k: v.requires_grad_() if k in case.differentiable else v for k, v in inputs.items()})
    op, args = record.calls[0]
    leaves = [a.detach().requires_grad_(a.is_floating_point()) if isinstance(a, torch.Tensor) else a for a in args]
    torch.library.opcheck(op, leaves, test_utils="test_aot_dispatch_dynamic")


@every_op
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiles_without_a_graph_break(case, backend, kernel):
    torch.compiler.reset()
    compiled = torch.compile(case.function, fullgraph=True, backend=backend)
    inputs = case.make_inputs(0)
    with skelkern.use(kernel), as_usual():
        found = evaluate(compiled, inputs, case.differentiable)
    assert_bitwise_equal(list(found.values()), results(case, kernel=kernel))


@differentiable_ops
def test_second_derivative_is_refused(case, kernel):
    inputs = case.make_inputs(0)
    name = case.differentiable[0]
    inputs[name].requires_grad_()
    output = case.function(**inputs, impl=kernel)
    first = output[0] if isinstance(output, tuple) else output
    (gradient,) = torch.autograd.grad(first.sum(), inputs[name], create_graph=True)
    with pytest.raises(RuntimeError, match="not twice differentiable, use impl='reference'"):
        gradient.sum().backward()


@every_op
def test_use_and_explain(case, kernel):
    inputs = case.make_inputs(0)
    with skelkern.use("auto"):
        explanation = skelkern.explain(case.function, **inputs)
    assert explanation.chosen in ("cpu", kernel) or (case.where_faster and "as fast" in str(explanation))
    with skelkern.use("reference"):
        explanation = skelkern.explain(case.function, **inputs)
        assert explanation.chosen == "reference"
        assert "'reference' was asked for" in str(explanation)
        assert skelkern.explain(case.function, **inputs, impl=kernel).chosen == kernel
    with pytest.raises(ValueError, match="expected one of 'auto'"):
        case.function(**inputs, impl="fastest")


@every_op
def test_what_an_op_lacks_or_cannot_run_is_said(case, kernel):
    available = {implementation.name for implementation in OPS[str(case)].implementations}
    inputs = case.make_inputs(0)
    for impl in {"triton", "cuda"} - {kernel}:
        reason = "cannot run here: .+" if impl in available else "expected impl to be 'auto' or one of"
        with pytest.raises(ValueError, match=reason):
            case.function(**inputs, impl=impl)
        if impl not in available:
            with skelkern.use(impl):
                assert skelkern.explain(case.function, **inputs).chosen == "reference"


@every_op
def test_float64_is_computed_by_the_reference(case, kernel):
    inputs = {
        k: v.double() if isinstance(v, torch.Tensor) and v.is_floating_point() else v
        for k, v in case.make_inputs(0).items()
    }
    with skelkern.use("auto"):
        explanation = skelkern.explain(case.function, **inputs)
    assert explanation.chosen == "reference"
    assert "torch.float64 is computed by the reference" in str(explanation)
    with pytest.raises(ValueError, match="torch.float64 is computed by the reference"):
        case.function(**inputs, impl=kernel)
