"""The processes of a run: one, several that this one starts, or those that torchrun has started."""

import inspect
import os
from typing import Any

from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

# buffers need not be sent at every step: statistics and queues are those of the whole batch, equal as they are
BUFFERS = "forward_sync_buffers"
if BUFFERS not in inspect.signature(DistributedDataParallel).parameters:
    BUFFERS = "broadcast_buffers"  # before torch 2.13


def launched(accelerator: str = "auto", devices: int = 1) -> Fabric:
    """Device and processes, launched.

    Under torchrun the processes are those that it started, on one machine or many. Otherwise this process starts all
    but the first of them on this machine.

    Args:
        accelerator: "cpu", "cuda" or "auto".
        devices: processes, each with a device of its own; under torchrun it need not be given.

    Raises:
        ValueError: torchrun has started other numbers of processes.
    """
    machines = 1
    if TorchElasticEnvironment.detect():
        everywhere, here = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        if devices not in (1, here):
            raise ValueError(f"devices: expected the {here} processes that torchrun has started here, found {devices}")
        if everywhere % here != 0:
            raise ValueError(f"processes: expected {here} on every machine, as on this one, found {everywhere} in all")
        devices, machines = here, everywhere // here
    options: dict[str, Any] = {BUFFERS: False}
    strategy = DDPStrategy(**options) if devices * machines > 1 else "auto"
    fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=machines, strategy=strategy)
    fabric.launch()
    return fabric
