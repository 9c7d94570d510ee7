"""One rule for every torch op of the library: define + impl + register_fake + register_autograd."""

from collections.abc import Callable
from typing import Any, overload

import torch

LIBRARY = torch.library.Library("skelkern", "DEF")


def register(
    schema: str,
    *,
    device: str,
    run: Callable[..., Any],
    fake: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    save: Callable[..., Any] | None = None,
) -> Any:
    """Registers `skelkern::<schema>` for one device and returns the op.

    Args:
        schema: the op's name, arguments and results in torch's schema language; no argument is mutated.
        device: dispatch key of `run`, such as "CPU".
        run: computes the op.
        fake: the same signature, shapes and dtypes only.
        backward: gradient formula `(ctx, *output_gradients)`; None for an op that is only run without gradients.
        save: `(ctx, inputs, output)`, keeps what `backward` needs.
    """
    name = schema.split("(")[0]
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, run, device)
    torch.library.register_fake(f"skelkern::{name}", fake, lib=LIBRARY)
    if backward is not None:
        torch.library.register_autograd(f"skelkern::{name}", backward, setup_context=save, lib=LIBRARY)
    return getattr(torch.ops.skelkern, name).default


def register_with_gradient(
    name: str,
    schemas: tuple[str, str],
    *,
    device: str,
    run: Callable[..., Any],
    fake: Callable[..., Any],
    save: Callable[..., Any],
    run_backward: Callable[..., Any],
    fake_backward: Callable[..., Any],
    formula: Callable[[Any], Callable[..., Any]],
) -> Any:
    """Registers `skelkern::<name>` and `skelkern::<name>_backward`, which computes its gradients; returns the former.

    Args:
        name: of the op.
        schemas: arguments and results of both.
        device, run, fake, save: as of `register`.
        run_backward, fake_backward: the same of the backward op.
        formula: makes the op's gradient formula of the backward op.
    """
    backward = register(
        f"{name}_backward{schemas[1]}",
        device=device,
        run=run_backward,
        fake=fake_backward,
        backward=not_twice_differentiable,
    )
    return register(f"{name}{schemas[0]}", device=device, run=run, fake=fake, backward=formula(backward), save=save)


def not_twice_differentiable(ctx: Any, *gradients: torch.Tensor) -> None:
    """Gradient formula of every backward op."""
    raise RuntimeError("this skelkern kernel is not twice differentiable, use impl='reference'")


@overload
def float32(tensor: torch.Tensor) -> torch.Tensor: ...
@overload
def float32(tensor: None) -> None: ...
def float32(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """The tensor as the CPU kernels read it: contiguous float32."""
    return None if tensor is None else tensor.detach().to(torch.float32).contiguous()


def address(tensor: torch.Tensor | None) -> int:
    """Where a tensor's data begins; 0, the kernels' null pointer, for None."""
    return 0 if tensor is None else tensor.data_ptr()


def addresses(*tensors: torch.Tensor | None) -> tuple[int, ...]:
    """`address` of each."""
    return tuple(map(address, tensors))
