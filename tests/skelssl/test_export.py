"""Exported encoders of runs: what is written computes the same, says what it takes, and is not written otherwise."""

import io
import json
from dataclasses import replace

import pytest
import torch
from tiny import RECIPE, write_run

from skelssl.cli import main
from skelssl.export import DESCRIPTION, ExportError, compare, export
from skelssl.methods.isc import ISCOptions
from skelssl.protocols.context import open_context
from skelssl.protocols.features import clip_batches, encode


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    """Of ISC's convolutions on images, whose export takes a second."""
    views = replace(ISCOptions().views, frames=16)
    recipe = replace(RECIPE, method="isc", isc=ISCOptions(forms=("image", "graph"), image_channels=8, views=views))
    return write_run(tmp_path_factory.mktemp("run") / "run", recipe, store)


@pytest.fixture(scope="module")
def training(run, store):
    """The encoder's clips of four samples, and its features."""
    context = open_context(run, store)
    (clips,) = clip_batches(context.recipe, store, store.select("train")[:4])
    return clips, encode(context.trained_encoder(), context.recipe, store, store.select("train")[:4])


def near(found, expected):
    return torch.linalg.vector_norm(found - expected) <= 16 * torch.finfo(torch.float32).eps * expected.norm()


def test_a_program_for_any_number_of_clips(run, store, training, tmp_path, capsys):
    clips, expected = training
    out = tmp_path / "new" / "encoder.pt2"
    main(["export", str(run), "--exported", str(out), "--data", str(store.path)])
    printed = capsys.readouterr().out
    assert "random clips: largest relative error" in printed and "training clips: largest relative error" in printed
    told = {DESCRIPTION: ""}
    module = torch.export.load(io.BytesIO(out.read_bytes()), extra_files=told).module()
    for count in (1, 4):
        assert near(module(clips[:count]), expected[:count])
    about = json.loads(told[DESCRIPTION])
    assert about["clips"] == {"channels": 3, "frames": 16, "joints": 20, "persons": 1}
    assert about["preprocessing"] == "raw" and about["feature_dim"] == expected.shape[1]


@pytest.mark.parametrize("batch", ["dynamic", pytest.param("2", marks=pytest.mark.slow)])
def test_onnx(run, store, training, batch, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install -e '.[export]'")
    pytest.importorskip("onnxscript", reason="needs onnxscript: pip install -e '.[export]'")
    clips, expected = training
    out = tmp_path / "encoder.onnx"
    main(["export", str(run), "--onnx", str(out), "--batch", batch, "--data", str(store.path)])
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    count = 4 if batch == "dynamic" else int(batch)
    (found,) = session.run(["features"], {"clips": clips[:count].numpy()})
    assert near(torch.from_numpy(found), expected[:count])
    assert json.loads(session.get_modelmeta().custom_metadata_map["skelssl"])["clips"]["frames"] == 16


def test_what_computes_something_else_is_refused(run, store, training):
    encoder = open_context(run, store).trained_encoder()
    clips, _ = training
    for off in (1 + 1e-4, float("nan")):
        with pytest.raises(ExportError, match="what was exported computes something else; nothing is written"):
            compare(encoder, lambda each, off=off: encoder(each) * off, {"clips": clips})


def test_nothing_is_written_of_a_failed_export(run, tmp_path, monkeypatch):
    monkeypatch.setattr("skelssl.export.exported_program", lambda *_: None)
    monkeypatch.setattr("skelssl.export._as_torch", lambda *_: (b"x", lambda clips: torch.zeros(len(clips), 1)))
    with pytest.raises(ExportError, match="computes something else"):
        export(run, exported=tmp_path / "encoder.pt2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected --onnx FILE or --exported FILE, found neither"),
        (["--exported", "x", "--batch", "0"], "batch: expected 1 to 1024, or dynamic, found 0"),
        (["--exported", "x", "--batch", "many"], "batch: expected a number or dynamic, found 'many'"),
    ],
)
def test_errors_are_one_line(run, arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(["export", str(run), *arguments])
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_missing_packages_are_named(run, monkeypatch, tmp_path):
    monkeypatch.setattr("skelssl.export.find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ExportError, match=r"--onnx needs onnxscript: pip install -e '\.\[export\]'"):
        export(run, onnx=tmp_path / "x.onnx")
