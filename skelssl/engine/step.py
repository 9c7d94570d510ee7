"""A training step on buffers that stay where they are, and its recording as one CUDA graph."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor

from skelssl.engine.recipe import RecipeError, TrainingOptions
from skelssl.methods.method import Method
from skelssl.views.augment import SequenceBatch
from skelssl.views.draws import Draws

WARM_UP = 3  # steps before the recording: kernels are compiled and the optimizer's state is made in them
Values = dict[str, Tensor]


def autocast(options: TrainingOptions, device: torch.device) -> AbstractContextManager[None]:
    """The precision of a step's losses: matrix products in bfloat16 where that is wanted.

    Casts are not kept: the weights change between the replays of a graph.
    """
    wanted = options.precision == "bf16-mixed"
    kept = not options.cuda_graph
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted, cache_enabled=kept)


class StaticStep:
    """Losses, backward and optimizer step of a method on views in buffers of its own.

    `run` reads and writes tensors that keep their places, those of the buffers, the method and the optimizer, and
    nothing of it depends on the values in them: what one run does to them any recording of it does. What a step draws
    by its number, its views, is made outside.

    Args:
        method: whose losses are taken.
        optimizer: of its parameters; rates that change must be tensors.
        precision: makes the context that losses are computed in.
    """

    def __init__(
        self,
        method: Method,
        optimizer: torch.optim.Optimizer,
        precision: Callable[[], AbstractContextManager[None]],
    ):
        self.method, self.optimizer, self.precision = method, optimizer, precision
        self.buffers: tuple[Tensor, ...] = ()

    def load(self, views: tuple[Tensor, ...]) -> None:
        """Copies views into the buffers, which the first ones make.

        Raises:
            ValueError: there are other views than before, or views of another shape or dtype.
        """
        if not self.buffers:
            self.buffers = tuple(view.clone() for view in views)
            return
        expected, found = ([(tuple(each.shape), each.dtype) for each in which] for which in (self.buffers, views))
        if expected != found:
            raise ValueError(f"views: expected {expected}, as in the first step, found {found}")
        for buffer, view in zip(self.buffers, views, strict=True):
            buffer.copy_(view)

    def run(self) -> Values:
        """One step; the losses, without gradients."""
        self.optimizer.zero_grad()  # to None: gradients are not added to, and a replay writes them where they were
        with self.precision():
            values = self.method.losses(*self.buffers)
        values["loss"].backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return {name: value.detach() for name, value in values.items()}


class Recorder(Protocol):
    """How a step is recorded."""

    def warm_up(self, run: Callable[[], Values]) -> Values:
        """Runs a step that is not recorded."""
        ...

    def record(self, run: Callable[[], Values]) -> Callable[[], Values]:
        """Records a step without running it; what is returned runs it."""
        ...


class CUDAGraphRecorder:
    """Records into a `torch.cuda.CUDAGraph`, which starts a step's hundreds of kernels by one call."""

    def __init__(self, device: torch.device):
        self.beside = torch.cuda.Stream(device)

    def warm_up(self, run: Callable[[], Values]) -> Values:
        """On a stream of its own, as a recording is: what a library keeps for each stream is not of the main one."""
        self.beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.beside):
            values = run()
        torch.cuda.current_stream().wait_stream(self.beside)
        return values

    def record(self, run: Callable[[], Values]) -> Callable[[], Values]:
        """See `Recorder`; the values that a replay returns are overwritten by the next one."""
        graph = torch.cuda.CUDAGraph()
        # only this thread: another one may be copying the next batches to the device
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            values = run()

        def replay() -> Values:
            graph.replay()
            return values

        return replay


class RecordedStep:
    """A whole step for a batch: its views are drawn, then the rest of it is warmed up, recorded and replayed.

    The first steps of a run, which are as good as any, are its warm-up, so that nothing has to be undone.

    Args:
        step: what is recorded.
        recorder: how.
    """

    def __init__(self, step: StaticStep, recorder: Recorder):
        self.step, self.recorder = step, recorder
        self.warmed_up = 0
        self.replay: Callable[[], Values] | None = None

    def __call__(self, batch: SequenceBatch, draws: Draws, number: int) -> Values:
        """Takes the step; its losses, which the next step may overwrite."""
        self.step.load(self.step.method.views(batch, draws, number))
        if self.warmed_up < WARM_UP:
            self.warmed_up += 1
            return self.recorder.warm_up(self.step.run)
        if self.replay is None:
            self.replay = self.recorder.record(self.step.run)
        return self.replay()


def recorded_step(
    options: TrainingOptions, method: Method, optimizer: torch.optim.Optimizer, device: torch.device, processes: int
) -> RecordedStep:
    """The step of a run that is to be recorded, on a restored state.

    Raises:
        RecipeError: there is no CUDA device, there are several processes, or the steps of the run are not all alike.
    """
    varying = method.why_views_vary()
    for wrong, expected, found in (
        (device.type != "cuda", "a CUDA device", f"the device {device}"),
        (processes > 1, "one process", f"{processes}"),
        (options.keep_last_batch, "batches of one size", "training.keep_last_batch"),
        (varying is not None, "views of one shape", varying),
    ):
        if wrong:
            raise RecipeError(f"training.cuda_graph: expected {expected}, found {found}")
    capturable(optimizer, torch.tensor(0.0, device=device))
    step = StaticStep(method, optimizer, lambda: autocast(options, device))
    return RecordedStep(step, CUDAGraphRecorder(device))


def capturable(optimizer: torch.optim.Optimizer, rate: Tensor) -> None:
    """Makes the optimizer's rate a tensor, which `set_rate` fills, and lets Adam count its steps on the device."""
    for group in optimizer.param_groups:
        group["lr"] = rate
        if "capturable" in group:
            group["capturable"] = True
