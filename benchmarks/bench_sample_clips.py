"""Time of clip sampling."""

import torch

import skelkern


def test_sample_clips(benchmark):
    frames, offsets = torch.randn(128 * 64, 2, 25, 3), torch.arange(129) * 64
    times = skelkern.resize_times(torch.rand(128) * 8, torch.full((128,), 50.0), 64)
    clips = benchmark(skelkern.sample_clips, frames, offsets, torch.randperm(128), times)
    assert clips.shape == (128, 3, 64, 25, 2)
