import copy

import pytest
import torch

from skelkern.nn import MemoryQueue, momentum_update


def rows(first, count, dim=3):
    """Keys whose every entry is their number."""
    return torch.arange(first, first + count, dtype=torch.float32)[:, None].expand(count, dim)


def test_starts_with_unit_vectors_of_the_seed():
    queue = MemoryQueue(50, 8)
    assert torch.allclose(queue.queue.norm(dim=1), torch.ones(50))
    assert torch.equal(queue.queue, MemoryQueue(50, 8).queue)
    assert not torch.equal(queue.queue, MemoryQueue(50, 8, seed=1).queue)


@pytest.mark.parametrize("counts", [(3, 3, 3), (7,), (5, 4), (7, 2), (16,), (1, 20, 2), (0, 4)])
def test_holds_the_latest_keys(counts):
    """Against a list: batches that wrap around, fill the queue exactly or several times."""
    queue, size = MemoryQueue(7, 3), 7
    expected, pointer, number = queue.queue.tolist(), 0, 0
    for count in counts:
        queue.enqueue(rows(number, count))
        for key in rows(number, count).tolist():
            expected[pointer], pointer = key, (pointer + 1) % size
        number += count
    assert queue.queue.tolist() == expected
    assert queue.pointer.item() == pointer


def test_state_is_in_the_checkpoint():
    queue, other = MemoryQueue(7, 3), MemoryQueue(7, 3, seed=1)
    queue.enqueue(rows(0, 5))
    other.load_state_dict(queue.state_dict())
    for each in (queue, other):
        each.enqueue(rows(5, 4))
    assert torch.equal(queue.queue, other.queue)
    assert queue.pointer.item() == other.pointer.item() == 2


def test_keys_are_detached_and_cast():
    queue = MemoryQueue(4, 3)
    queue.enqueue(rows(0, 2).double().requires_grad_())
    assert queue.queue.dtype == torch.float32
    assert not queue.queue.requires_grad


def test_compiles_without_a_graph_break():
    queue = MemoryQueue(7, 3)
    expected = copy.deepcopy(queue)
    torch.compile(queue.enqueue, fullgraph=True, backend="aot_eager")(rows(0, 9))
    expected.enqueue(rows(0, 9))
    assert torch.equal(queue.queue, expected.queue)


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        (torch.zeros(2, 4), ValueError, r"keys: expected shape \(B, D\) with B=2, D=3"),
        (torch.zeros(2, 3, 4), ValueError, r"keys: expected shape \(B, P, D\) with B=2, P=3, D=3"),
        (torch.zeros(2, 3, dtype=torch.long), TypeError, "keys: expected a floating-point tensor"),
        (torch.zeros(2, 3, device="meta"), ValueError, "keys: expected the queue's device cpu, found meta"),
    ],
)
def test_wrong_keys(keys, error, message):
    with pytest.raises(error, match=message):
        MemoryQueue(7, 3).enqueue(keys)


def test_momentum_update_is_the_formula():
    torch.manual_seed(0)
    target, source = (torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.BatchNorm1d(5)) for _ in range(2))
    expected = [m * 0.999 + q * (1 - 0.999) for m, q in zip(target.parameters(), source.parameters(), strict=True)]
    source(torch.randn(4, 7))
    momentum_update(target, source, 0.999)
    for found, wanted in zip(target.parameters(), expected, strict=True):
        assert torch.equal(found, wanted)
    assert target[1].num_batches_tracked == 0, "statistics stay the target's own"


def test_momentum_update_of_unlike_modules():
    with pytest.raises(ValueError, match="'bias' is in one of them only"):
        momentum_update(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2, bias=False), 0.9)
    with pytest.raises(ValueError, match=r"expected shape \(2, 2\) of 'weight', found \(2, 3\)"):
        momentum_update(torch.nn.Linear(2, 2), torch.nn.Linear(3, 2), 0.9)
    with pytest.raises(ValueError, match="momentum: expected a finite number"):
        momentum_update(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2), 1.5)
