"""torch.export and ONNX of every encoder: the references' code, run elsewhere."""

import pytest
import torch
from test_encoders import FRAMES, SIZES, clips_of, moved, small

import skelkern
from skelssl.export import stable_sort

onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install -e '.[export]'")
pytest.importorskip("onnxscript", reason="needs onnxscript: pip install -e '.[export]'")


def few_clips(name, **options):
    """Clips, of clouds small ones: the reference sorts all distances."""
    return clips_of(name, frames=4 if name == "dgcnn" else FRAMES, **options)


def exported(name):
    """The encoder, and its program for any number of clips."""
    encoder = moved(small(name)).eval()
    batch = torch.export.Dim("n", min=1, max=1024)
    with torch.no_grad(), skelkern.use("reference"):
        return encoder, torch.export.export(encoder, (few_clips(name),), dynamic_shapes=({0: batch},))


LONG = ("agcn", "dgcnn", "hico-gru", "hico-lstm", "stgcn")  # many nodes


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in SIZES])
def test_exported_encoders_make_the_same_features(name, tmp_path):
    encoder, program = exported(name)
    file = tmp_path / "encoder.onnx"
    torch.onnx.export(
        program, (), file, dynamo=True, verbose=False, custom_translation_table=stable_sort(), external_data=False
    )
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for n in (1, 5):
        clips = few_clips(name, n=n, seed=n)
        with torch.no_grad():
            expected = encoder(clips)
            torch.testing.assert_close(program.module()(clips), expected, rtol=1e-4, atol=1e-5)
        (found,) = session.run(None, {session.get_inputs()[0].name: clips.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)
