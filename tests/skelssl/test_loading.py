import os
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import RECIPE

from skelssl import skeletons
from skelssl.data import loading
from skelssl.data.loading import AHEAD, ResidentSequences, StreamedSequences, load_sequences
from skelssl.engine.pretrain import pretrain
from skelssl.engine.recipe import RecipeError, load_recipe
from skelssl.methods.pstl import PSTL
from skelssl.protocols.features import clip_batches
from skelssl.views.augment import SequenceBatch
from skelssl.views.draws import Draws

CPU = torch.device("cpu")
STEPS = [torch.tensor(samples, dtype=torch.int64) for samples in ([40, 3, 3, 17], [0], [47, 20, 1], [], [5, 6, 7, 8])]
SKELETON = skeletons.get("nw_ucla20")


class Clips(torch.nn.Module):
    """An encoder that keeps the views it is shown."""

    feature_dim = 3

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, clips, joints=None):
        self.seen.append(clips)
        return clips.mean(dim=(2, 3, 4))


def views(sequences):
    """All views that PSTL makes of the batches with at least two samples."""
    encoder = Clips()
    method = PSTL(encoder, SKELETON, RECIPE.pstl)
    for step, batch in enumerate(sequences.batches([samples for samples in STEPS if len(samples) > 1])):
        method.training_step(batch, Draws(0, 1), step)
    return encoder.seen


def reading_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("skelssl-frames")]


def test_on_a_cpu_the_frames_are_the_map_itself(store):
    sequences = load_sequences(store, store.select("train"), CPU)
    assert isinstance(sequences, ResidentSequences)
    assert sequences.frames.data_ptr() == store.frames.ctypes.data
    batch = next(sequences.batches(STEPS))
    assert batch.places is None
    assert batch.samples.tolist() == [40, 3, 3, 17]


@pytest.mark.parametrize("ahead", [0, 1, AHEAD, 9])
def test_streamed_batches_hold_the_store_s_sequences(store, ahead):
    sequences = load_sequences(store, np.arange(48), CPU, "streamed", ahead=ahead)
    batches = list(sequences.batches(STEPS))
    assert [batch.samples.tolist() for batch in batches] == [step.tolist() for step in STEPS]
    for batch in batches:
        for row, sample in enumerate(batch.samples.tolist()):
            first, end = batch.offsets[batch.index[row]], batch.offsets[batch.index[row] + 1]
            assert torch.equal(batch.frames[first:end], torch.from_numpy(store.sample(sample)))
            assert batch.lengths[row] == len(store.sample(sample))


@pytest.mark.parametrize("ahead", [0, AHEAD])
def test_streamed_views_are_bitwise_those_of_resident_frames(store, ahead):
    found = views(StreamedSequences(store, CPU, ahead=ahead))
    expected = views(load_sequences(store, np.arange(48), CPU))
    assert len(found) == 9
    assert all(map(torch.equal, found, expected))


def test_bfloat16_frames_are_the_rounded_ones_resident_or_streamed(store):
    used = torch.cat(STEPS).numpy()
    resident = load_sequences(store, used, CPU, "resident", "bfloat16")
    assert resident.frames.dtype == torch.bfloat16
    assert len(resident.frames) == sum(len(store.sample(sample)) for sample in set(used.tolist()))
    found, expected = views(resident), views(load_sequences(store, used, CPU, "streamed", "bfloat16"))
    assert all(map(torch.equal, found, expected))
    exact = views(load_sequences(store, used, CPU))
    assert not torch.equal(found[0], exact[0])
    torch.testing.assert_close(found[0], exact[0], rtol=0.02, atol=0.04)


@pytest.mark.parametrize(("free", "kind"), [(1 << 30, ResidentSequences), (1000, StreamedSequences)])
def test_auto_looks_at_the_free_memory(store, monkeypatch, free, kind):
    monkeypatch.setattr(loading, "_free_bytes", lambda _: free)
    assert isinstance(load_sequences(store, store.select("train"), CPU, frame_type="bfloat16"), kind)


def test_half_of_the_free_memory_is_the_limit(store, monkeypatch):
    samples = store.select("train")
    size = sum(store.sample(sample).nbytes for sample in samples) // 2
    for free, kind in ((2 * size, ResidentSequences), (2 * size - 2, StreamedSequences)):
        monkeypatch.setattr(loading, "_free_bytes", lambda _, free=free: free)
        assert isinstance(load_sequences(store, samples, CPU, frame_type="bfloat16"), kind)


def test_frames_that_do_not_fit_are_refused(store, monkeypatch):
    monkeypatch.setattr(loading, "_free_bytes", lambda _: 1000)
    with pytest.raises(ValueError, match=r"expected at most .* GiB free on cpu, found .* bfloat16 frames; stream them"):
        load_sequences(store, store.select("train"), CPU, "resident", "bfloat16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loading": "lazy"}, "expected one of auto, resident, streamed, found 'lazy'"),
        ({"frame_type": "float16"}, "expected one of float32, bfloat16, found 'float16'"),
        ({"loading": "streamed", "ahead": -1}, "ahead: expected at least 0, found -1"),
        ({"samples": np.array([3, 48])}, r"samples: expected numbers in \[0, 48\), found 48"),
        ({"samples": np.array([-1])}, r"samples: expected numbers in \[0, 48\), found -1"),
    ],
)
def test_wrong_options_are_named(store, options, message):
    with pytest.raises(ValueError, match=message):
        load_sequences(**{"store": store, "samples": np.arange(4), "device": CPU, **options})


@pytest.mark.parametrize(("mode", "frame_type"), [("auto", "float32"), ("streamed", "float32"), ("auto", "bfloat16")])
def test_samples_that_do_not_exist_are_named(store, mode, frame_type):
    sequences = load_sequences(store, np.arange(48), CPU, mode, frame_type)
    for wrong in (48, -1):
        with pytest.raises(ValueError, match=rf"expected numbers in \[0, 48\), found {wrong}"):
            list(sequences.batches([torch.tensor([0]), torch.tensor([2, wrong])]))
    assert not reading_threads()


def test_samples_that_were_not_loaded_are_named(store):
    sequences = load_sequences(store, np.arange(10), CPU, "resident", "bfloat16")
    with pytest.raises(ValueError, match="expected those that were loaded, found 11"):
        list(sequences.batches([torch.tensor([3, 11])]))


def test_no_batches_at_all(store):
    for mode in ("auto", "streamed"):
        assert list(load_sequences(store, np.arange(4), CPU, mode).batches([])) == []


class Gathering:
    """Stands in for `gather_frames`: counts, waits and fails as told."""

    def __init__(self, monkeypatch, fails_at=None, seconds=0.0):
        self.calls, self.fails_at, self.seconds, self.gather = 0, fails_at, seconds, loading.gather_frames
        monkeypatch.setattr(loading, "gather_frames", self)

    def __call__(self, *arguments, **options):
        self.calls += 1
        time.sleep(self.seconds)
        if self.calls == self.fails_at:
            raise OSError("the disk is gone")
        return self.gather(*arguments, **options)


def test_an_error_of_the_thread_reaches_the_caller_after_the_batches_before_it(store, monkeypatch):
    Gathering(monkeypatch, fails_at=3)
    seen = []
    with pytest.raises(OSError, match="the disk is gone"):
        for batch in StreamedSequences(store, CPU).batches(STEPS):
            seen.append(batch)
    assert len(seen) == 2
    assert not reading_threads()


@pytest.mark.parametrize("ahead", [0, 3])
def test_only_so_many_batches_are_read_ahead(store, monkeypatch, ahead):
    gathering = Gathering(monkeypatch)
    steps = [torch.tensor([number]) for number in range(20)]
    for number, _ in enumerate(StreamedSequences(store, CPU, ahead=ahead).batches(steps)):
        time.sleep(0.005)
        assert gathering.calls <= number + 1 + ahead
    assert gathering.calls == 20


def test_leaving_early_ends_the_thread(store, monkeypatch):
    gathering = Gathering(monkeypatch)
    for _ in StreamedSequences(store, CPU).batches(STEPS * 10):
        assert reading_threads()
        break
    assert not reading_threads()
    assert gathering.calls <= AHEAD + 1


def test_an_interrupt_while_waiting_ends_the_thread(store, monkeypatch):
    Gathering(monkeypatch, seconds=0.3)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # processes of pytest-xdist ignore it
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(StreamedSequences(store, CPU).batches(STEPS))
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    assert not reading_threads()


def weights(run):
    return load_file(run / "encoder.safetensors")


def with_loading(mode, **training):
    return replace(RECIPE, training=replace(RECIPE.training, loading=mode, **training))


def test_a_streamed_run_is_bitwise_a_resident_one_and_goes_on_as_one(store, tmp_path, monkeypatch):
    expected = weights(pretrain(with_loading("resident"), store, tmp_path / "resident"))
    streamed = weights(pretrain(with_loading("streamed"), store, tmp_path / "streamed"))
    assert all(torch.equal(streamed[name], expected[name]) for name in expected)
    Gathering(monkeypatch, fails_at=8)
    with pytest.raises(OSError, match="the disk is gone"):
        pretrain(with_loading("streamed"), store, tmp_path / "mixed")
    assert not reading_threads()
    mixed = weights(pretrain(with_loading("auto"), store, tmp_path / "mixed", resume=True))
    assert all(torch.equal(mixed[name], expected[name]) for name in expected)


def test_the_type_of_frames_is_part_of_a_run(store, tmp_path):
    run = pretrain(with_loading("auto", epochs=1, frame_type="bfloat16"), store, tmp_path / "run")
    with pytest.raises(RecipeError, match=r"another recipe; different: training.frame_type"):
        pretrain(with_loading("auto", epochs=1), store, run, resume=True)
    with pytest.raises(RecipeError, match=r"training.loading"):
        load_recipe("pstl-nw-ucla", ["--training.loading=lazily"])


def test_one_pass_shows_what_the_map_holds(store, monkeypatch):
    expected = list(clip_batches(RECIPE, store, np.arange(48)))
    monkeypatch.setattr("skelssl.protocols.features.sequences_for_one_pass", StreamedSequences)
    found = list(clip_batches(RECIPE, store, np.arange(48)))
    assert all(map(torch.equal, found, expected))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch.cuda.is_available() is False")
@pytest.mark.parametrize("frame_type", ["float32", "bfloat16"])
def test_on_a_gpu_streamed_batches_are_bitwise_resident_ones(store, frame_type):
    device = torch.device("cuda")
    used = torch.cat(STEPS).numpy()
    resident, streamed = (load_sequences(store, used, device, mode, frame_type) for mode in ("resident", "streamed"))
    for one, other in zip(resident.batches(STEPS), streamed.batches(STEPS), strict=True):
        assert one.frames.device.type == other.frames.device.type == "cuda"
        assert torch.equal(one.samples, other.samples)
        for first, second in zip(sequences_of(one), sequences_of(other), strict=True):
            assert torch.equal(first, second)


def sequences_of(batch: SequenceBatch):
    ends = zip(batch.offsets[batch.index].tolist(), batch.offsets[batch.index + 1].tolist(), strict=True)
    return [batch.frames[first:end] for first, end in ends]
