"""Faster forwards for the modules of other people's models, proved one by one before they are kept."""

import dataclasses

from torch import nn

from skelkern.dropin import agcn, clouds, ctrgcn, hico, layers, pyskl, stgcn
from skelkern.dropin.proof import prove
from skelkern.dropin.replacement import RefusedError, Replacement, replace, replacement_of, undo
from skelkern.dropin.report import Entry, Report

__all__ = ["Entry", "Report", "accelerate", "restore"]

# In this order a module is compared with them: blocks before what they are made of
REPLACEMENTS: tuple[type[Replacement], ...] = tuple(
    replacement for models in (pyskl, stgcn, agcn, ctrgcn, clouds, hico, layers) for replacement in models.REPLACEMENTS
)


def accelerate(model: nn.Module) -> Report:
    """Replaces the forwards of the modules that the library has faster ones for, in place.

    Every candidate is proved on a random input before it is kept: outputs, gradients and buffers in training and
    evaluation mode against the original's in float64; otherwise it is left, with the reason in the report. Parameters,
    state_dict keys, optimizers, hooks, train and eval, copying and pickling are unaffected. Modules that a replaced
    block no longer calls are not searched. Doing it again changes nothing.

    Args:
        model: any module; only float32 modules on a CPU are replaced.

    Returns:
        All candidates, with their errors or the reason why they were left.
    """
    report = Report()
    _search(model, "", report, set())
    return report


def restore(model: nn.Module) -> int:
    """Undoes `accelerate`; returns the number of modules that have their own forward again."""
    replaced = [module for module in model.modules() if replacement_of(module) is not None]
    for module in replaced:
        undo(module)
    return len(replaced)


def _search(module: nn.Module, name: str, report: Report, seen: set[int]) -> None:
    if id(module) in seen:
        return
    seen.add(id(module))
    found = replacement_of(module)
    if found is None:
        found = _replace(module, name, report)
    fused = {id(part) for path in found.fused for part in _descendants(module, path)} if found is not None else set()
    seen |= fused
    for child_name, child in module.named_children():
        _search(child, f"{name}.{child_name}" if name else child_name, report, seen)


def _replace(module: nn.Module, name: str, report: Report) -> type[Replacement] | None:
    """Tries all replacements on one module; enters the first that recognises it into the report."""
    for replacement in REPLACEMENTS:
        entry = Entry(name, type(module).__name__, replacement.source)
        try:
            if not replacement.recognises(module):
                continue
            _check_place(module)
            _check_hooks(module, replacement)
            proof = prove(module, replacement)
        except RefusedError as refused:
            report.entries.append(dataclasses.replace(entry, reason=str(refused)))
            return None
        replace(module, replacement)
        report.entries.append(dataclasses.replace(entry, proof=proof))
        return replacement
    return None


def _check_place(module: nn.Module) -> None:
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.device.type != "cpu":
            raise RefusedError(f"it is on {tensor.device.type}; the kernels are for CPUs")
        if tensor.is_floating_point() and str(tensor.dtype) != "torch.float32":
            raise RefusedError(f"its parameters are {tensor.dtype}; the kernels compute in torch.float32")


def _check_hooks(module: nn.Module, replacement: type[Replacement]) -> None:
    for path in replacement.fused:
        for part in _descendants(module, path):
            hooks = (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks)
            if any(hooks):
                raise RefusedError(f"a hook on {path} would not run any more")
            if hasattr(part, "parametrizations"):
                raise RefusedError(f"{path} is parametrized")


def _descendants(module: nn.Module, path: str) -> list[nn.Module]:
    """The submodule at a path and all of its own; none where the path names no module."""
    try:
        part = module.get_submodule(path)
    except AttributeError:
        return []
    return list(part.modules())
