"""Training steps of the encoders and methods on a GPU: plain PyTorch (the references) against the kernels."""

import argparse
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import skelkern
from gpu import device


@dataclass(frozen=True)
class Sizes:
    batch: int = 128  # sequences; of clouds an eighth
    frames: int = 50
    points: int = 1024
    projector: int = 6144
    features: int = 1024  # of a cloud


SMALL = Sizes(batch=2, frames=24, points=40, projector=64, features=32)


@dataclass
class Step:
    """What the steps of one model took; every spread is (p20, median, p80)."""

    milliseconds: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    ratio: tuple[float, float, float] | None = None  # plain / kernels, of paired rounds
    peak_bytes: dict[str, int] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    captured: str = ""  # what became of a CUDA graph of the whole step


def stgcn(sizes: Sizes, target: torch.device) -> tuple[nn.Module, Callable[[], Tensor]]:
    """ST-GCN, classified."""
    from skelssl import skeletons
    from skelssl.encoders.stgcn import STGCN

    skeleton = skeletons.get("ntu25")
    model = nn.Sequential(STGCN(skeleton), nn.Linear(256, 60)).to(target)
    clips = torch.randn(sizes.batch, 3, sizes.frames, len(skeleton.parents), 2, device=target)
    labels = torch.arange(sizes.batch, device=target) % 60
    return model, lambda: nn.functional.cross_entropy(model(clips), labels)


def pstl(sizes: Sizes, target: torch.device) -> tuple[nn.Module, Callable[[], Tensor]]:
    """PSTL from augmentation to loss."""
    from skelssl import skeletons
    from skelssl.encoders.stgcn import STGCN
    from skelssl.methods.pstl import PSTL, PSTLOptions
    from skelssl.views.augment import SequenceBatch
    from skelssl.views.draws import Draws

    skeleton, length = skeletons.get("ntu25"), 2 * sizes.frames
    method = PSTL(STGCN(skeleton), skeleton, PSTLOptions(frames=sizes.frames, projector=sizes.projector)).to(target)
    frames = torch.randn(sizes.batch * length, 2, len(skeleton.parents), 3, device=target)
    offsets = torch.arange(sizes.batch + 1, device=target) * length
    batch = SequenceBatch(frames, offsets, torch.arange(sizes.batch, device=target))
    return method, lambda: method.training_step(batch, Draws(0, 0), 0)["loss"]


def dgcnn(sizes: Sizes, target: torch.device) -> tuple[nn.Module, Callable[[], Tensor]]:
    """DGCNN's encoder of clouds, FoldingNet's decoder, Chamfer distance."""
    from skelssl.decoders.foldingnet import FoldingNet
    from skelssl.encoders.dgcnn import DGCNN

    encoder = DGCNN(feature_dim=sizes.features)
    model = nn.Sequential(encoder, FoldingNet(encoder.feature_dim)).to(target)
    clouds = torch.randn(max(2, sizes.batch // 8), sizes.points, 3, device=target)
    return model, lambda: skelkern.chamfer_distance(model(clouds), clouds)


MODELS = {"ST-GCN": stgcn, "PSTL": pstl, "DGCNN and FoldingNet": dgcnn}


def training_step(model: nn.Module, loss_of: Callable[[], Tensor], implementation: str) -> Callable[[], Tensor]:
    """Forward, loss, backward and optimizer."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step() -> Tensor:
        with skelkern.use(implementation) if implementation != "auto" else nullcontext():
            loss = loss_of()
            loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        return loss.detach()

    return step


def run(make: Callable[..., Any], sizes: Sizes, target: torch.device, seconds: float) -> Step:
    """Times the steps of a model with and without the kernels, in turns."""
    found, calls = Step(), {}
    for name, implementation in (("plain", "reference"), ("kernels", "auto")):
        torch.manual_seed(0)
        calls[name] = training_step(*make(sizes, target), implementation)
        found.losses[name] = calls[name]().item()
        calls[name]()
        found.peak_bytes[name] = device.peak_bytes(calls[name], target)
    if target.type == "cuda":
        try:
            calls["kernels, captured"], _ = device.captured(calls["kernels"])
            found.captured = "captured"
        except Exception as error:
            found.captured = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    times = device.milliseconds_in_turns(calls, target, seconds)
    found.milliseconds = {name: device.spread(values) for name, values in times.items()}
    found.ratio = device.spread([a / b for a, b in zip(times["plain"], times["kernels"], strict=True)])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="small sizes on the CPU")
    arguments = parser.parse_args()
    target = device.target(arguments.dry_run)
    torch.backends.cudnn.allow_tf32 = False  # equal precision
    found = {}
    for name, make in MODELS.items():
        try:
            step = run(make, SMALL if arguments.dry_run else Sizes(), target, 0.1 if arguments.dry_run else 5.0)
        except ModuleNotFoundError as error:
            found[name] = {"left_out": f"needs {error.name} (pip install 'skelkern[ssl]')"}
        else:
            found[name] = vars(step)
        print(f"{name}: {found[name]}", flush=True)
    device.WORK.mkdir(parents=True, exist_ok=True)
    (device.WORK / "steps.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
