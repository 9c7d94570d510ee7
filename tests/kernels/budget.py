"""The error budget: the one place that says how wrong a kernel may be.

err = ‖out − truth‖₂ / ‖truth‖₂ for every output and every gradient, as root mean square over the seeds. The truth is
the reference in float64 on the same inputs. A kernel may err by max(2 · err_reference, 8 ε) in an output and
max(3 · err_reference, 16 ε) in a gradient, with err_reference that of the reference in the kernel's own dtype.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Inputs = dict[str, Any]
SEEDS = range(8)


def check_budget(
    function: Callable[..., Any],
    make_inputs: Callable[[int], Inputs],
    differentiable: Sequence[str] = (),
    *,
    dtype: torch.dtype = torch.float32,
    seeds: Sequence[int] = SEEDS,
) -> None:
    """Asserts that `function(**inputs)` stays within the budget of `function(**inputs, impl="reference")`.

    `make_inputs(seed)` gives float64 tensors, rounded here to `dtype`; `differentiable` names the inputs whose
    gradients are compared.
    """
    squares: dict[str, list[tuple[float, float]]] = {}
    for seed in seeds:
        inputs = {name: _cast(value, dtype) for name, value in make_inputs(seed).items()}
        truth = evaluate(function, _widened(inputs), differentiable, seed, impl="reference")
        ours = evaluate(function, inputs, differentiable, seed)
        peer = evaluate(function, inputs, differentiable, seed, impl="reference")
        for name, exact in truth.items():
            assert ours[name].shape == exact.shape, f"{name}: shape {ours[name].shape}, expected {exact.shape}"
            errors = (relative_error(ours[name], exact), relative_error(peer[name], exact))
            squares.setdefault(name, []).append(errors)
    for name, pairs in squares.items():
        ours_rms, peer_rms = (math.sqrt(sum(e[i] ** 2 for e in pairs) / len(pairs)) for i in (0, 1))
        allowed = allowed_error(peer_rms, name.startswith("gradient of"), dtype)
        assert ours_rms <= allowed, f"{name}: error {ours_rms:.3g}, allowed {allowed:.3g} ({dtype})"


def allowed_error(of_peer: float, gradient: bool, dtype: torch.dtype = torch.float32) -> float:
    """How much a result or a gradient may err where the peer errs by `of_peer`."""
    factor, floor = (3, 16) if gradient else (2, 8)
    return max(factor * of_peer, floor * torch.finfo(dtype).eps)


def evaluate(
    function: Callable[..., Any],
    inputs: Mapping[str, Any],
    differentiable: Sequence[str],
    seed: int = 0,
    **options: Any,
) -> dict[str, Tensor]:
    """All outputs, and the gradients of their product with fixed random cotangents, by name."""
    leaves = {name: value.detach().clone() for name, value in inputs.items() if isinstance(value, Tensor)}
    for name in differentiable:
        leaves[name].requires_grad_()
    outputs = function(**{**inputs, **leaves}, **options)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    results = {f"output {i}": output.detach() for i, output in enumerate(outputs)}
    if differentiable:
        generator = torch.Generator().manual_seed(seed)
        cotangents = [
            torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output) for output in outputs
        ]
        gradients = torch.autograd.grad(outputs, [leaves[name] for name in differentiable], cotangents)
        results |= {f"gradient of {name}": g for name, g in zip(differentiable, gradients, strict=True)}
    return results


def relative_error(value: Tensor, truth: Tensor) -> float:
    """‖value − truth‖ / ‖truth‖ in float64; the absolute error where the truth is zero."""
    difference = (value.double() - truth.double()).norm().item()
    size = truth.double().norm().item()
    return difference / size if size > 0 else difference


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def _widened(inputs: Inputs) -> Inputs:
    return {name: _cast(value, torch.float64) for name, value in inputs.items()}
