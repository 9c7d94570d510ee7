"""The ops of a compiled chamfer distance, forward and backward, the same for every device."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from skelkern.registration import addresses, float32, not_twice_differentiable, register


def register_kernels(
    name: str, module: Callable[[], Any], where: Callable[[Tensor], Any]
) -> Callable[..., tuple[Tensor, Tensor]]:
    """Registers `skelkern::chamfer_<name>` and its backward; returns the function to both sides' distances.

    Args:
        name: of the implementation and, in capitals, of the device.
        module: the compiled module.
        where: what its functions take to run on the device of a tensor: a number of threads or a queue.
    """

    def run_forward(
        x: Tensor, y: Tensor, x_mask: Tensor | None, y_mask: Tensor | None, weights: Tensor | None, squared: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        arrays, sizes = _problem(x, y, x_mask, y_mask, weights)
        nearest = _empty_nearest(x, y)
        module().chamfer_forward(addresses(*arrays), sizes, squared, where(x), addresses(*nearest))
        return nearest

    def run_backward(to_y_gradient: Tensor, to_x_gradient: Tensor, *saved: Any) -> tuple[Tensor, Tensor]:
        x, y, weights, *nearest, squared = saved
        arrays, sizes = _problem(x, y, None, None, weights)
        incoming = float32(to_y_gradient), float32(to_x_gradient)
        of_cloud = tuple(cloud.new_empty(cloud.shape, dtype=torch.float32) for cloud in (x, y))
        options = squared, where(x), addresses(*nearest)
        module().chamfer_backward(addresses(*arrays), sizes, *options, addresses(*incoming), addresses(*of_cloud))
        return of_cloud[0].to(x.dtype), of_cloud[1].to(y.dtype)

    def backward(ctx: Any, to_y: Tensor, to_x: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        of_x, of_y = backward_op(to_y, to_x, *ctx.saved_tensors, ctx.squared)
        needed = ctx.needs_input_grad
        return of_x if needed[0] else None, of_y if needed[1] else None, None, None, None, None

    forward_op = register(
        f"chamfer_{name}(Tensor x, Tensor y, Tensor? x_mask, Tensor? y_mask, Tensor? weights, bool squared)"
        " -> (Tensor, Tensor, Tensor, Tensor)",
        device=name.upper(),
        run=run_forward,
        fake=_empty_nearest,
        backward=backward,
        save=_save,
    )
    backward_op = register(
        f"chamfer_{name}_backward(Tensor to_y_gradient, Tensor to_x_gradient, Tensor x, Tensor y, Tensor? weights,"
        " Tensor to_y, Tensor to_x, Tensor of_x, Tensor of_y, bool squared) -> (Tensor, Tensor)",
        device=name.upper(),
        run=run_backward,
        fake=_empty_gradients,
        backward=not_twice_differentiable,
    )

    def distances(*arguments: Any) -> tuple[Tensor, Tensor]:
        to_y, to_x, *_ = forward_op(*arguments)
        return to_y, to_x

    return distances


def _problem(
    x: Tensor, y: Tensor, x_mask: Tensor | None, y_mask: Tensor | None, weights: Tensor | None
) -> tuple[tuple[Tensor | None, ...], tuple[int, ...]]:
    """(arrays, sizes) as the kernels take them."""
    masks = (None if mask is None else mask.contiguous() for mask in (x_mask, y_mask))
    return (float32(x), float32(y), *masks, float32(weights)), (*x.shape[:2], *y.shape[1:])


def _empty_nearest(x: Tensor, y: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    to_y, to_x = (cloud.new_empty(cloud.shape[:2], dtype=torch.float32) for cloud in (x, y))
    of_x, of_y = (cloud.new_empty(cloud.shape[:2], dtype=torch.int32) for cloud in (x, y))
    return to_y, to_x, of_x, of_y


def _empty_gradients(
    to_y_gradient: Tensor, to_x_gradient: Tensor, x: Tensor, y: Tensor, *_: Any
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), y.new_empty(y.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, y, _, _, weights, ctx.squared = inputs
    ctx.save_for_backward(x, y, weights, *output)
    ctx.mark_non_differentiable(*output[2:])
