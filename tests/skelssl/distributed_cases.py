"""Every method in several processes beside one process with the joined batch.

`torchrun --nproc-per-node 2 tests/skelssl/distributed_cases.py` trains each method for three steps both ways and prints
the largest relative difference of losses, gradients, buffers and queues. By default that is done in float64: in float32
a rounding puts a value on the other side of a ReLU now and then, or a point among others' neighbours, and gradients
jump, in one process as well.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
from lightning_fabric import Fabric
from tiny import RECIPE, make_store
from torch import Tensor, nn

import skelkern
from skelssl import skeletons
from skelssl.data.loading import ResidentSequences
from skelssl.encoders.agcn import AGCN
from skelssl.encoders.hcn import HCN
from skelssl.encoders.stgcn import STGCN
from skelssl.encoders.zoo import create
from skelssl.engine.pretrain import _train_epoch
from skelssl.engine.processes import launched
from skelssl.engine.recipe import Recipe, TrainingOptions
from skelssl.engine.schedule import make_optimizer
from skelssl.methods.hico import HiCo, HiCoOptions
from skelssl.methods.isc import ISC, ISCOptions
from skelssl.methods.method import Method
from skelssl.methods.pstl import PSTL, PSTLOptions
from skelssl.methods.scc import SCC, CloudStreams, SCCOptions
from skelssl.protocols import features
from skelssl.views.contrast import ContrastOptions

SKELETON = skeletons.get("ntu25")
STEPS = (range(13), range(13, 26), range(26, 32))  # samples of each; of two or four processes some have one more
STEP_NAMES = tuple(f"step {number}" for number in range(len(STEPS)))
VIEWS = ContrastOptions(frames=16)
# SGD: Adam divides gradients that are rounding alone, those of a bias before a normalisation, by their size
TRAINING = TrainingOptions(
    epochs=len(STEPS), batch_size=13, keep_last_batch=True, optimizer="sgd", learning_rate=1e-2, warmup_epochs=0
)
# where gradients have norms of hundreds; at larger rates rounding grows from step to step
RATES = {"pstl": 1e-5, "pstl, official": 1e-5, "scc, sum of squares": 1e-7}


def pstl(official: bool = False) -> PSTL:
    options = PSTLOptions(frames=20, masked_frames=4, projector=24)
    options = options.official() if official else options
    return PSTL(STGCN(SKELETON, hidden_channels=4, feature_dim=16), SKELETON, options)


def hico(encoder: str) -> HiCo:
    options = HiCoOptions(views=VIEWS, width=8, levels=3, projection=6, projection_hidden=8, queue=20)
    return HiCo(create(f"hico-{encoder}", SKELETON, frames=16, width=8, levels=3), SKELETON, options)


def isc(**changes: object) -> ISC:
    options = replace(ISCOptions(views=VIEWS, projection=6, queue=20), **changes)
    encoders = {
        "sequence": lambda: create("bigru", SKELETON, hidden_size=6),
        "graph": lambda: AGCN(SKELETON, hidden_channels=4),
        "image": lambda: HCN(SKELETON, frames=16, hidden_channels=8),
    }
    return ISC(tuple(encoders[form]() for form in options.forms), SKELETON, options)


def scc(**changes: object) -> SCC:
    options = replace(SCCOptions(frames=2, k=4, feature_dim=16, grid=(4, 5), absent="masked", segments=2), **changes)
    return SCC(CloudStreams(options), SKELETON, options)


CASES: dict[str, Callable[[], Method]] = {
    "pstl": pstl,
    "pstl, official": lambda: pstl(official=True),
    "hico, transformer": lambda: hico("transformer"),
    "hico, gru": lambda: hico("gru"),
    "isc, sequence and graph": isc,
    "isc, graph and image": lambda: isc(forms=("graph", "image")),
    "isc, a quarter of keys": lambda: isc(enqueued_share=0.25),
    "isc, virtual batches": lambda: isc(virtual_batch=8),
    "scc": scc,
    "scc, sum of squares": lambda: scc(loss="sum_of_squares", granularity="both", masked_ratio=0.3),
}


def sequences(like: Tensor) -> ResidentSequences:
    """32 sequences of noise, two persons; in every third the second one is absent."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(18, 40, (32,), generator=generator)
    frames = torch.randn(int(lengths.sum()), 2, 25, 3, generator=generator)
    offsets = torch.cat((torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)))
    for sample in range(0, 32, 3):
        frames[offsets[sample] : offsets[sample + 1], 1] = 0
    return ResidentSequences(frames.to(like), offsets.to(like.device))


def train(case: str, fabric: Fabric, dtype: torch.dtype) -> dict[str, dict[str, Tensor]]:
    """Losses and gradients of all steps, and buffers, queues and parameters behind the last one."""
    torch.manual_seed(0)
    method = CASES[case]().to(dtype)
    for module in method.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    training = replace(TRAINING, learning_rate=RATES.get(case, TRAINING.learning_rate))
    recipe = Recipe("random", "none", training=training)
    optimizer = make_optimizer(training, method.parameters())
    model, wrapped = fabric.setup(method, optimizer)
    model.mark_forward_method("training_step")
    data, losses, gradients = sequences(torch.empty(0, dtype=dtype, device=fabric.device)), {}, {}
    for number, samples in enumerate(STEPS):
        means = _train_epoch(recipe, fabric, model, wrapped, data, torch.tensor(samples), number)
        losses |= {f"{name}, {STEP_NAMES[number]}": torch.tensor(value, dtype=dtype) for name, value in means.items()}
        named = {name: value.grad for name, value in method.named_parameters() if value.grad is not None}
        gradients |= {f"{name}, {STEP_NAMES[number]}": gradient.cpu().clone() for name, gradient in named.items()}
    state = {name: value.detach().cpu().clone() for name, value in method.state_dict().items()}
    named = dict(method.named_parameters())
    queues = {name: state.pop(name) for name in list(state) if "queue" in name and name not in named}
    parameters = {f"{name}, {STEP_NAMES[-1]}": state.pop(name) for name in list(state) if name in named}
    return {"loss": losses, "gradients": gradients, "buffers": state, "queues": queues, "parameters": parameters}


def differences(found: dict[str, dict[str, Tensor]], expected: dict[str, dict[str, Tensor]]) -> dict[str, float]:
    """The largest difference of each quantity, as norms of tensors."""
    largest = {}
    for quantity, tensors in expected.items():
        assert found[quantity].keys() == tensors.keys()
        off = {
            name: (found[quantity][name].double() - tensor.double()).norm().item() for name, tensor in tensors.items()
        }
        if tensors:
            largest[quantity] = max(off[name] / scale if off[name] > 0 else 0.0 for name, scale in scales(tensors))
    return largest


def scales(tensors: dict[str, Tensor]) -> Iterator[tuple[str, float]]:
    """What differences are relative to: norms.

    Means, by the deviations beside them; gradients and parameters, which may be 0 but for rounding, by the largest norm
    among those of the same step.
    """
    norms = {name: tensor.double().norm().item() for name, tensor in tensors.items()}
    for name, norm in norms.items():
        group = name.rpartition(", ")[2]
        if name.endswith("running_mean"):
            yield name, tensors[name.replace("running_mean", "running_var")].double().sqrt().norm().item()
        elif group in STEP_NAMES:
            yield name, max(other for key, other in norms.items() if key.endswith(group))
        else:
            yield name, norm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help=", ".join(CASES))
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--devices", type=int, default=1, help="processes to start, where torchrun does not")
    parser.add_argument("--float32", action="store_true", help="with the kernels instead of the references")
    parser.add_argument("--out", type=Path, help="for the figures as JSON")
    arguments = parser.parse_args()
    fabric = launched(arguments.accelerator, arguments.devices)
    dtype, impl = (torch.float32, "auto") if arguments.float32 else (torch.float64, "reference")
    with skelkern.use(impl):
        found = compare(fabric, arguments.cases or list(CASES), dtype)
    found["shared encoding"] = {"features": shared_features()}
    if fabric.is_global_zero:
        print(f"{'shared encoding':25s}  features {found['shared encoding']['features']:.1e}")
    if fabric.is_global_zero and arguments.out:
        arguments.out.write_text(json.dumps(found))


def shared_features() -> float:
    """Largest difference of features that all processes have encoded together."""
    torch.manual_seed(0)
    encoder = STGCN(skeletons.get("nw_ucla20"), hidden_channels=4, feature_dim=16)
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(features, "BATCH", 5):
        store = make_store(Path(folder) / "store")
        expected = features.encode(encoder, RECIPE, store, store.select("train"))
        with features.shared_encoding():
            found = features.encode(encoder, RECIPE, store, store.select("train"))
    return (found - expected).abs().max().item()


def compare(fabric: Fabric, cases: list[str], dtype: torch.dtype) -> dict[str, dict[str, float]]:
    """The differences of each case, the largest of all processes; empty in all but the first of them."""
    found = {}
    for case in cases:
        of_all = [None] * fabric.world_size if fabric.is_global_zero else None
        torch.distributed.gather_object(train(case, fabric, dtype), of_all)
        if of_all is not None:
            expected = train(case, Fabric(accelerator=fabric.device.type, devices=1), dtype)
            each = [differences(of_one, expected) for of_one in of_all]
            found[case] = {quantity: max(of_one[quantity] for of_one in each) for quantity in each[0]}
            print(f"{case:25s}", *(f"{name} {value:.1e}" for name, value in found[case].items()), sep="  ", flush=True)
    return found


if __name__ == "__main__":
    main()
