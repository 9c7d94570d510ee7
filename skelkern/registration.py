"""One rule for every torch op of the library: define + impl + register_fake + register_autograd."""

from collections.abc import Callable
from typing import Any

import torch

LIBRARY = torch.library.Library("skelkern", "DEF")


def register(
    schema: str,
    *,
    device: str,
    run: Callable[..., Any],
    fake: Callable[..., Any],
    backward: Callable[..., Any],
    save: Callable[..., Any] | None = None,
) -> Any:
    """Registers `skelkern::<schema>` for one device and returns the op.

    Args:
        schema: the op's name, arguments and results in torch's schema language; no argument is mutated.
        device: dispatch key of `run`: "CPU", "CUDA", or "CompositeExplicitAutograd" for any device.
        run: computes the op.
        fake: the same signature, shapes and dtypes only.
        backward: gradient formula `(ctx, *output_gradients)`.
        save: `(ctx, inputs, output)`, keeps what `backward` needs.
    """
    name = schema.split("(")[0]
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, run, device)
    torch.library.register_fake(f"skelkern::{name}", fake, lib=LIBRARY)
    torch.library.register_autograd(f"skelkern::{name}", backward, setup_context=save, lib=LIBRARY)
    return getattr(torch.ops.skelkern, name).default


def not_twice_differentiable(ctx: Any, *gradients: torch.Tensor) -> None:
    """Gradient formula of every backward op."""
    raise RuntimeError("this skelkern kernel is not twice differentiable, use impl='reference'")


def float32(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as the CPU kernels read it: contiguous float32."""
    return tensor.detach().to(torch.float32).contiguous()


# Losses compute their gradients in the forward pass; what is left to do backward is a product with a scalar.
scaled_gradient = register(
    "scaled_gradient(Tensor gradient, Tensor scale) -> Tensor",
    device="CompositeExplicitAutograd",
    run=lambda gradient, scale: gradient * scale.to(gradient.dtype),
    fake=lambda gradient, scale: torch.empty_like(gradient),
    backward=not_twice_differentiable,
)
