"""The proof that a replacement computes what the original does, on random parameters and inputs."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from skelkern.dispatch import use
from skelkern.dropin.replacement import RefusedError, Replacement, replace

SEED = 20
OUTPUT, GRADIENT = (2, 8), (3, 16)  # may err by so many times the original's error, or by so many ε
SHARE = 1e-3  # of the largest gradient's size an element: smaller gradients are rounding errors of a zero
INPUTS = 8  # over which errors are averaged where one input leaves it open
ROUNDING = 1e-2  # errors beyond are none of rounding


@dataclass(frozen=True)
class Proof:
    """Largest errors, relative to the original in float64, and what they may be."""

    output_error: float
    output_allowed: float
    gradient_error: float
    gradient_allowed: float


def prove(module: nn.Module, replacement: type[Replacement]) -> Proof:
    """Runs original and replacement on one random input, in training and in evaluation mode.

    Everything happens on copies with parameters and running statistics drawn at random (those of a fresh model often
    hide a difference: normalisations begin near zero, learned graphs at zero), without dropout.

    An error of rounding is a matter of chance: where it exceeds the budget on one input, its root mean square over
    several counts, as it does in the budget.

    Raises:
        RefusedError: the module cannot be copied or run, or outputs, gradients or buffers differ by more than the
            error budget of the library's ops.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(SEED)
        try:
            original = _perturbed_copy(module)
            inputs = [replacement.example(original) for _ in range(INPUTS)]
        except Exception as error:
            raise RefusedError(f"cannot be copied for the proof: {_first_line(error)}") from error
        proofs = [_prove_mode(original, replacement, inputs, training) for training in (True, False)]
    return max(proofs, key=lambda proof: proof.output_error)


def _prove_mode(
    original: nn.Module, replacement: type[Replacement], inputs: list[tuple[Any, ...]], training: bool
) -> Proof:
    found = [_errors(original, replacement, inputs[0], training)]
    excess = _excess(found)
    if excess and excess[0] < ROUNDING:
        found += [_errors(original, replacement, more, training) for more in inputs[1:]]
        excess = _excess(found)
    if excess:
        error, allowed, name = excess
        mode = "training" if training else "evaluation"
        raise RefusedError(f"{name} ({mode}): error {error:.2g}, allowed {allowed:.2g}")
    judged = _judge(found)
    worst = {
        kind: max(
            ((error, allowed) for name, (error, allowed) in judged.items() if name.startswith("gradient") is kind),
            key=lambda pair: pair[0] / pair[1],
            default=(0.0, 0.0),
        )
        for kind in (False, True)
    }
    return Proof(*worst[False], *worst[True])


def _perturbed_copy(module: nn.Module) -> nn.Module:
    copied = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.grad = None
            if parameter.is_floating_point():
                parameter.add_(0.1 * torch.randn_like(parameter))
        for child in copied.modules():
            for hooks in (child._forward_hooks, child._forward_pre_hooks, child._backward_hooks):
                hooks.clear()  # the user's, which shall not see the proof
            if isinstance(child, nn.Dropout):
                child.p = 0.0
            if isinstance(child, _BatchNorm) and child.running_mean is not None and child.running_var is not None:
                child.running_mean.normal_(std=0.1)
                child.running_var.uniform_(0.5, 1.5)
    return copied


Outcome = tuple[dict[str, Tensor], dict[str, Tensor]]  # outputs and buffers, gradients
Errors = dict[str, tuple[float, float]]  # of the replacement and of the original, by name


def _errors(original: nn.Module, replacement: type[Replacement], inputs: tuple[Any, ...], training: bool) -> Errors:
    """Relative errors of everything that a call results in."""
    try:
        exact = _run(copy.deepcopy(original).double(), inputs, torch.float64, training)
        plain = _run(copy.deepcopy(original), inputs, torch.float32, training)
    except Exception as error:
        raise RefusedError(f"the original cannot be run on an example: {_first_line(error)}") from error
    candidate = copy.deepcopy(original)
    replace(candidate, replacement)
    try:
        with use("cpu"):
            ours = _run(candidate, inputs, torch.float32, training)
    except Exception as error:
        raise RefusedError(f"the replacement cannot be run on an example: {_first_line(error)}") from error
    return _relative(ours[0], plain[0], exact[0]) | _relative(ours[1], plain[1], exact[1])


def _run(module: nn.Module, inputs: tuple[Any, ...], dtype: torch.dtype, training: bool) -> Outcome:
    module.train(training)
    arguments = [value.to(dtype).requires_grad_() if isinstance(value, Tensor) else value for value in inputs]
    leaves = [value for value in arguments if isinstance(value, Tensor)]
    outputs = _tensors(module(*arguments))
    generator = torch.Generator().manual_seed(SEED)
    cotangents = [torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y) for y in outputs]
    named = {f"input {i}": leaf for i, leaf in enumerate(leaves)} | dict(module.named_parameters())
    differentiable = [y for y in outputs if y.requires_grad]
    chosen = [c for y, c in zip(outputs, cotangents, strict=True) if y.requires_grad]
    wanted = {name: value for name, value in named.items() if value.requires_grad}
    found = torch.autograd.grad(differentiable, list(wanted.values()), chosen, allow_unused=True)
    gradients = {
        f"gradient of {name}": torch.zeros_like(value) if gradient is None else gradient
        for (name, value), gradient in zip(wanted.items(), found, strict=True)
    }
    results = {f"output {i}": y.detach() for i, y in enumerate(outputs)}
    return results | {name: buffer for name, buffer in module.named_buffers()}, gradients


def _tensors(result: Any) -> list[Tensor]:
    """All floating-point tensors of a forward's result."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, tuple | list):
        return [tensor for part in result for tensor in _tensors(part)]
    raise TypeError(f"expected tensors as the result, found {type(result).__name__}")


def _relative(ours: dict[str, Tensor], plain: dict[str, Tensor], exact: dict[str, Tensor]) -> Errors:
    per_element = max((_size(value) / max(1, value.numel()) ** 0.5 for value in exact.values()), default=0.0)
    errors = {}
    for name, truth in exact.items():
        if ours[name].shape != truth.shape:
            raise RefusedError(f"{name}: shape {tuple(ours[name].shape)}, expected {tuple(truth.shape)}")
        size = max(_size(truth), SHARE * per_element * truth.numel() ** 0.5) or 1.0
        errors[name] = (
            _size(ours[name].double() - truth.double()) / size,
            _size(plain[name].double() - truth.double()) / size,
        )
    return errors


def _judge(found: list[Errors]) -> dict[str, tuple[float, float]]:
    """Root mean square error over the inputs, and what it may be, by name."""
    judged = {}
    for name in found[0]:
        factor, floor = GRADIENT if name.startswith("gradient") else OUTPUT
        error, reference = (math.sqrt(sum(one[name][i] ** 2 for one in found) / len(found)) for i in (0, 1))
        judged[name] = error, max(factor * reference, floor * torch.finfo(torch.float32).eps)
    return judged


def _excess(found: list[Errors]) -> tuple[float, float, str] | None:
    """The largest error beyond its allowance, that allowance and its name, outputs first; NaN counts as infinite."""
    beyond = [(error, allowed, name) for name, (error, allowed) in _judge(found).items() if not error <= allowed]
    outputs = [one for one in beyond if one[2].startswith("output")]
    return max(outputs or beyond, key=lambda one: math.inf if math.isnan(one[0]) else one[0], default=None)


def _size(value: Tensor) -> float:
    return value.double().norm().item()


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"
