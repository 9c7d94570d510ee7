"""What processes compute of a joint batch is what one process computes of all of it."""

import pickle
import socket

import pytest
import torch
import torch.multiprocessing as mp
from budget import allowed_error, relative_error
from torch import nn

import skelkern
from skelkern.nn import BatchNorm1d, BlockTail, MemoryQueue, STGCNBlock
from skelkern.processes import JointBatch

pytestmark = pytest.mark.cpu_kernel
SAMPLES, PROCESSES = 5, 2  # the first process has one more
CONSTANT = ("tcn.2.bias", "residual.0.bias")  # a normalisation follows: their gradients are rounding


class Block(nn.Module):
    """ST-GCN's block and a graph, which has a gradient of its own."""

    def __init__(self):
        super().__init__()
        self.block = STGCNBlock(3, 4, subsets=2, stride=2)
        self.graph = nn.Parameter(torch.rand(2, 5, 5))

    def forward(self, x):
        return self.block(x, self.graph)


class Tail(nn.Module):
    """A normalisation without affine part, with a cumulative average, a residual and ReLU."""

    def __init__(self):
        super().__init__()
        self.tail = BlockTail(3, affine=False, momentum=None)

    def forward(self, x):
        return self.tail(x, residual=0.5 * x)


MODULES = {
    "rows": (lambda: BatchNorm1d(7), (7,)),
    "sequences": (lambda: BatchNorm1d(6), (6, 11)),
    "tail": (Tail, (3, 8, 5)),
    "block": (Block, (3, 12, 5)),
}


def computed(name, dtype, own):
    """Outputs, gradients and buffers of a module for the samples of a slice."""
    torch.manual_seed(0)
    make, shape = MODULES[name]
    module = make().to(dtype)
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.rand_like(parameter)
    x = torch.randn(SAMPLES, *shape, dtype=torch.float64).float().to(dtype)[own] + 3
    x.requires_grad_()
    y = module(x)
    generator = torch.Generator().manual_seed(1)
    y.backward(torch.randn(SAMPLES, *y.shape[1:], generator=generator).to(dtype)[own])
    gradients = {key: value.grad for key, value in module.named_parameters() if not key.endswith(CONSTANT)}
    return {"rows": {"y": y.detach(), "gradient of x": x.grad}, "sums": gradients, "same": dict(module.named_buffers())}


def keys(samples, per_sample=1):
    """Keys whose every entry is their number."""
    numbers = torch.arange(samples * per_sample, dtype=torch.float32).view(samples, per_sample, 1)
    return numbers.expand(samples, per_sample, 3).squeeze(1)


def queues(own):
    """Three queues after a batch: of a key for each sample, of several, and of a share of the keys."""
    made = MemoryQueue(7, 3), MemoryQueue(11, 3), MemoryQueue(7, 3)
    made[0].enqueue(keys(SAMPLES)[own])
    made[0].enqueue(10 + keys(SAMPLES)[own])
    made[1].enqueue(keys(SAMPLES, 2)[own])
    made[2].enqueue(keys(SAMPLES)[own], share=0.5)
    return [(queue.queue, queue.pointer) for queue in made]


def _in_process(rank, port, folder):
    store = torch.distributed.TCPStore("127.0.0.1", port, PROCESSES, is_master=rank == 0)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=PROCESSES)
    torch.set_num_threads(1)
    own = slice(rank, None, PROCESSES)
    with skelkern.joint_batch(SAMPLES):
        found = {name: computed(name, torch.float32, own) for name in MODULES}
        found["queues"] = queues(own)
        rows = torch.arange(SAMPLES, dtype=torch.float32)[own].requires_grad_()
        joined = skelkern.gathered(rows)
        (joined * torch.arange(SAMPLES) * (rank + 1)).sum().backward()
        found["gathered"] = joined.detach(), rows.grad
        with pytest.raises(ValueError, match="expected this process's"):
            skelkern.gathered(rows[:-1])
    with pytest.raises(ValueError, match="at least one for each of 2 processes, found 1"), skelkern.joint_batch(1):
        pass
    with open(f"{folder}/{rank}.pkl", "wb") as file:
        pickle.dump(found, file)
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The results of both processes."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.start_processes(_in_process, args=(port, str(folder)), nprocs=PROCESSES, start_method="spawn")
    return [pickle.loads((folder / f"{rank}.pkl").read_bytes()) for rank in range(PROCESSES)]


@pytest.mark.parametrize("name", MODULES)
def test_normalisations_are_those_of_the_joint_batch(name, found):
    each, everything = [one[name] for one in found], slice(None)
    peer = computed(name, torch.float32, everything)
    with skelkern.use("reference"):
        truth = computed(name, torch.float64, everything)
    ours = {"rows": {}, "sums": {}, "same": each[0]["same"]}
    for key, value in truth["rows"].items():
        ours["rows"][key] = torch.empty_like(value, dtype=torch.float32)
        for rank, one in enumerate(each):
            ours["rows"][key][rank::PROCESSES] = one["rows"][key]
    for key in truth["sums"]:
        ours["sums"][key] = sum(one["sums"][key] for one in each)
    for kind, exact in truth.items():
        for key, value in exact.items():
            error, of_peer = (relative_error(these[kind][key], value) for these in (ours, peer))
            gradient = kind == "sums" or key == "gradient of x"
            assert error <= allowed_error(of_peer, gradient), f"{key}: {error:.3g}, one process {of_peer:.3g}"
    for key, value in each[0]["same"].items():
        assert torch.equal(value, each[1]["same"][key]), f"{key} differs between the processes"


def test_queues_hold_the_keys_of_all_processes_in_the_order_of_samples(found):
    for one in found:
        for (ours, pointer), (queue, expected) in zip(one["queues"], queues(slice(None)), strict=True):
            assert torch.equal(ours, queue)
            assert pointer == expected


def test_gathered_rows_have_the_gradients_of_all_processes(found):
    for rank, one in enumerate(found):
        joined, gradient = one["gathered"]
        assert joined.tolist() == [0, 1, 2, 3, 4]
        assert gradient.tolist() == [3 * sample for sample in range(rank, SAMPLES, PROCESSES)]


def test_nothing_changes_in_one_process():
    rows = torch.ones(2, 3)
    with skelkern.joint_batch(9):
        assert skelkern.gathered(rows) is rows


def test_consecutive_samples_must_be_divisible():
    assert JointBatch(24, 1, 2, None).divided("virtual_batch", 8) == 4
    assert JointBatch(22, 1, 2, None).divided("virtual_batch", 8) == 4
    for samples, consecutive in ((24, 7), (17, 8)):
        with pytest.raises(ValueError, match="virtual_batch: expected a multiple of the 2 processes"):
            JointBatch(samples, 1, 2, None).divided("virtual_batch", consecutive)
