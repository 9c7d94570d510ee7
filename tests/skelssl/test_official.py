"""Against the official codes (parity.py), and the files that these write."""

import official_states as states
import parity
import pytest
import torch
from parity import save

from skelssl.encoders.zoo import create
from skelssl.official import OfficialError, load_encoder, load_method, pretraining_step, read_state


@pytest.mark.parametrize("kind", parity.HICO)
def test_hico(kind):
    errors = parity.hico_errors(kind)
    assert max(errors.values()) <= parity.TOLERANCE, errors


def test_pstl_step():
    errors = parity.pstl_errors()
    assert max(errors.values()) <= parity.TOLERANCE, errors


@pytest.mark.parametrize("pair", [("sequence", "graph"), pytest.param(("graph", "image"), marks=pytest.mark.slow)])
def test_isc(pair):
    errors = parity.isc_errors(pair)
    assert max(errors.values()) <= parity.TOLERANCE, errors


def test_official_queues_are_written_as_by_the_official_code():
    """Sixteen of 64 keys, and HiCo's pointers wrap at K in queues of four times as many."""
    state, views = states.filled(states.hico_shapes("gru", queue=8)), states.views(4)
    method = load_method("hico", state).train()
    for _ in range(3):
        method.losses(*views)
    untouched = state["c_queue"].T[8:]
    assert torch.equal(method.clip_queue.queue[8:], untouched)
    assert not torch.equal(method.clip_queue.queue[:8], state["c_queue"].T[:8])
    assert method.clip_queue.pointer.item() == 0 and method.instance_queue.pointer.item() == 4


def test_a_step_is_the_methods_own():
    state = states.filled(states.hico_shapes("gru"))
    found = pretraining_step("hico", state, states.views())
    assert found["instance"].item() == pytest.approx(parity.HICO["gru"][0][3], rel=1e-4)
    with pytest.raises(ValueError, match="expected hico or isc, found 'pstl'"):
        pretraining_step("pstl", state, states.views())


@pytest.mark.parametrize("prefix", ["", "module.", "encoder_q."])
def test_pstl(prefix, tmp_path):
    original = create("stgcn", "ntu25").eval()
    encoder = load_encoder("pstl", save(original.state_dict(), tmp_path / "v1_epoch_150_pretrain.pt", prefix))
    clips = states.views(2)[0]
    assert torch.equal(encoder(clips), original(clips)) and not encoder.training


def test_downstream_files_and_wrong_ones(tmp_path):
    state = {k: v for k, v in states.filled(states.hico_shapes("gru")).items() if k.startswith("encoder_q.hi_encoder.")}
    state = {key.removeprefix("encoder_q."): value for key, value in state.items()}
    head = {"fc.weight": torch.zeros(60, 4096), "fc.bias": torch.zeros(60)}
    load_encoder("hico", save(state | head, tmp_path / "downstream.pth.tar"))
    lacking = {key: value for key, value in state.items() if "norm" not in key} | {"hi_encoder.colour": torch.zeros(2)}
    lacking["hi_encoder.t_embedding.0.bias"] = torch.zeros(3)
    with pytest.raises(OfficialError) as error:
        load_encoder("hico", save(lacking, tmp_path / "lacking.pth.tar"))
    for named in (
        "missing: t_downsample.norm.weight, t_downsample.norm.bias, s_downsample.norm.weight, s_downsample.norm.bias",
        "unexpected: colour",
        "of another shape: t_embedding.0.bias (3,) for (512,)",
    ):
        assert named in str(error.value)
    path = save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pt")
    for method in ("hico", "isc", "pstl"):
        with pytest.raises(OfficialError, match="other.pt: "):
            load_encoder(method, path)


def test_what_cannot_be_read_is_named(tmp_path):
    whole = save({"a": torch.zeros(3)}, tmp_path / "whole.pt").read_bytes()
    contents = {"empty.pt": b"", "half.pt": whole[: len(whole) // 2], "text.pt": b"no checkpoint"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(OfficialError, match=f"{name}: cannot be read"):
            read_state(tmp_path / name)
    torch.save({"state_dict": [1, 2]}, tmp_path / "list.pt")
    with pytest.raises(OfficialError, match=r"list.pt: expected tensors by name"):
        read_state(tmp_path / "list.pt")
    torch.save(torch.nn.Linear(1, 1), tmp_path / "module.pt")
    with pytest.raises(OfficialError, match=r"module.pt: cannot be read"):
        read_state(tmp_path / "module.pt")
    with pytest.raises(OfficialError, match=r"absent.pt: expected a checkpoint, found nothing"):
        read_state(tmp_path / "absent.pt")
    with pytest.raises(ValueError, match="method: expected one of hico, isc, pstl, found 'scc'"):
        load_encoder("scc", tmp_path / "list.pt")
    with pytest.raises(ValueError, match="form: expected one of sequence, graph, image, and only for isc"):
        load_encoder("hico", tmp_path / "list.pt", form="graph")
