"""Against the official codes: numbers that they compute from states and views filled by a rule (official_states.py)."""

import official_states as states
import pytest
import torch

from skelssl.encoders.zoo import create
from skelssl.official import OfficialError, load_encoder, load_method, pretraining_step, read_state

# Losses of the first step (clip, part, domain, instance), then the feature of the second clip at places 0, 100, 2047,
# 2048 and 4095, and the norm of all features.
HICO = {
    "gru": ([1.620862, 8.345498, 9.834717, 1.956879], [-0.47255, -0.12995, 0.43193, -0.14562, -0.59483], 73.8407),
    "lstm": ([1.870444, 8.37831, 9.630981, 1.808498], [-0.44227, -0.09585, 0.2773, -0.10118, -0.50657], 33.0322),
    "transformer": (
        [2.685402, 7.956854, 11.293695, 1.369916],
        [0.42181, 1.4796, -0.03456, 0.89405, -1.24881],
        133.1452,
    ),
}
# Losses of the first and the second form; of either the feature of the second clip at the first place, the sixth, the
# middle and the last one, and the norm of all features.
ISC = {
    ("sequence", "graph"): [4.717841, 4.519987],
    ("graph", "image"): [4.426908, 4.308153],
}
ISC_FEATURES = {
    ("sequence", "graph"): [
        ([-0.2277, 0.95925, 0.07209, -0.50725], 51.4102),
        ([58129.41406, 39883.69531, 49991.0, 40461.125], 1304841.25),
    ],
    ("graph", "image"): [
        ([383887.125, 127912.0625, 172783.32812, 135683.375], 6573342.0),
        ([35.75768, 0.0, 103.98651, 39.14804], 9431.9414),
    ],
}


def without_dropout(method):
    for module in method.modules():
        if "Dropout" in type(module).__name__:
            module.p = 0.0
    return method


def save(state, path, prefix=""):
    torch.save({"epoch": 450, "state_dict": {prefix + key: value for key, value in state.items()}}, path)
    return path


@pytest.mark.parametrize("kind", HICO)
def test_hico(kind, tmp_path):
    losses, places, norm = HICO[kind]
    state, views = states.filled(states.hico_shapes(kind)), states.views()
    method = without_dropout(load_method("hico", state)).train()
    found = method.losses(*views)
    assert [found[name].item() for name in ("clip", "part", "domain", "instance")] == pytest.approx(losses, rel=1e-4)
    assert found["loss"].item() == pytest.approx(sum(losses), rel=1e-4)
    encoder = load_encoder("hico", save(state, tmp_path / "checkpoint_0450.pth.tar"))
    with torch.no_grad():
        features = encoder(views[0])
    assert features[1, [0, 100, 2047, 2048, 4095]].tolist() == pytest.approx(places, rel=1e-4, abs=2e-5)
    assert features.norm().item() == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize("pair", [("sequence", "graph"), pytest.param(("graph", "image"), marks=pytest.mark.slow)])
def test_isc(pair, tmp_path):
    state, views = states.filled(states.isc_shapes(*pair)), states.views()
    method = without_dropout(load_method("isc", state, virtual_batch=0)).train()
    found = method.losses(*views)
    assert [found[form].item() for form in pair] == pytest.approx(ISC[pair], rel=1e-4)
    path = save(state, tmp_path / "checkpoint_0450.pth.tar", "module.")
    for form, (places, norm) in zip(pair, ISC_FEATURES[pair], strict=True):
        encoder = load_encoder("isc", path, form=form)
        with torch.no_grad():
            features = encoder(views[0])
        chosen = [0, 5, encoder.feature_dim // 2, encoder.feature_dim - 1]
        assert features[1, chosen].tolist() == pytest.approx(places, rel=1e-4, abs=2e-5)
        assert features.norm().item() == pytest.approx(norm, rel=1e-4)


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
    assert found["instance"].item() == pytest.approx(HICO["gru"][0][3], rel=1e-4)
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
