"""What tests make is on the device of the implementation under test, with the same values as on a CPU."""

import torch
from on_device import TensorsOfTests

import skelkern


def test_what_a_test_makes_is_moved():
    with TensorsOfTests("meta"):
        leaf = torch.randn(3, generator=torch.Generator().manual_seed(0), requires_grad=True)
        moved = [leaf, torch.tensor([1.0]), torch.arange(3), torch.zeros(2, dtype=torch.bool)]
        named = torch.zeros(2, device="cpu")
    assert {tensor.device.type for tensor in moved} == {"meta"}
    assert leaf.is_leaf
    assert leaf.requires_grad
    assert named.device.type == "cpu"


def test_what_the_library_makes_is_not():
    with TensorsOfTests("meta"):
        assert skelkern.mirror_times(1.0, 4, 7).device.type == "cpu"


def test_values_are_those_of_a_cpu():
    with TensorsOfTests("cpu"):
        found = torch.randn(5, generator=torch.Generator().manual_seed(3))
    assert torch.equal(found, torch.randn(5, generator=torch.Generator().manual_seed(3), device="cpu"))
