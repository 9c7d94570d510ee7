"""The zoo of encoders: names and numbers of their weights, what the official codes compute, properties of features."""

import copy
import sys
from pathlib import Path

import parity
import pytest
import torch
from torch import nn

import skelkern
from skelssl import encoders, skeletons
from skelssl.encoders.hierarchical import HierarchicalEncoder

sys.path.append(str(Path(__file__).parents[1] / "kernels"))

from budget import check_budget

NTU = skeletons.get("ntu25")
FRAMES = 16
SMALL = {
    "agcn": {"hidden_channels": 8},
    "bigru": {"hidden_size": 12},
    "dgcnn": {"feature_dim": 32, "k": 4},
    "hcn": {"hidden_channels": 8, "frames": FRAMES, "dropout": 0.0},
    "hico-gru": {"width": 16, "frames": FRAMES},
    "hico-lstm": {"width": 16, "frames": FRAMES},
    "hico-transformer": {"width": 16, "frames": FRAMES},
    "stgcn": {"hidden_channels": 4, "feature_dim": 16, "dropout": 0.0},
}
SIZES = {  # F, and the parameters without heads
    "agcn": (256, 3_552_778 - 98_688),
    "bigru": (2048, 49_457_280 - 4_458_624),
    "dgcnn": (1024, 617_856),
    "hcn": (4096, 17_825_152 - 17_305_728),
    "hico-gru": (4096, 3_077_120),
    "hico-lstm": (4096, 3_865_600),
    "hico-transformer": (4096, 3_867_648),
    "stgcn": (256, 821_380),
}


def small(name, skeleton=NTU, seed=0, **options):
    torch.manual_seed(seed)
    return encoders.create(name, skeleton, **{**SMALL[name], **options})


def moved(encoder):
    """The encoder with normalisations and learned graphs away from where they start, which would hide differences."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, value in encoder.state_dict(keep_vars=True).items():
            if value.is_floating_point() and (value.dim() == 1 or key.endswith("PA")):
                value.add_(torch.rand(value.shape, generator=generator), alpha=0.3)
    return encoder


def clips_of(encoder_name, n=3, persons=2, joints=NTU.num_joints, frames=FRAMES, seed=0):
    return torch.randn(n, 3, frames, joints, persons, generator=torch.Generator().manual_seed(seed))


def test_the_zoo_is_complete():
    assert encoders.names() == tuple(sorted(SIZES))


@pytest.mark.parametrize("name", SIZES)
def test_features_and_parameters_are_as_many_as_in_the_papers(name):
    with torch.device("meta"):
        encoder = encoders.create(name, "ntu25")
    assert (encoder.feature_dim, sum(parameter.numel() for parameter in encoder.parameters())) == SIZES[name]


def shapes_of(name):
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in encoders.create(name, "ntu25").state_dict().items()}


def norm_shapes(prefix, channels):
    shapes = {f"{prefix}.{key}": (channels,) for key in ("weight", "bias", "running_mean", "running_var")}
    return {**shapes, f"{prefix}.num_batches_tracked": ()}


def layer_shapes(prefix, *weight):
    return {f"{prefix}.weight": weight, f"{prefix}.bias": weight[:1]}


def test_agcn_has_the_keys_of_the_public_codes():
    expected = norm_shapes("data_bn", 150)
    outputs = [64] * 4 + [128] * 3 + [256] * 3
    for number, (into, out) in enumerate(zip([3, *outputs], outputs, strict=False), start=1):
        unit = f"l{number}"
        expected |= {f"{unit}.gcn1.PA": (3, 25, 25)}
        for subset in range(3):
            expected |= layer_shapes(f"{unit}.gcn1.conv_a.{subset}", out // 4, into, 1, 1)
            expected |= layer_shapes(f"{unit}.gcn1.conv_b.{subset}", out // 4, into, 1, 1)
            expected |= layer_shapes(f"{unit}.gcn1.conv_d.{subset}", out, into, 1, 1)
        if into != out:
            expected |= layer_shapes(f"{unit}.gcn1.down.0", out, into, 1, 1) | norm_shapes(f"{unit}.gcn1.down.1", out)
        expected |= norm_shapes(f"{unit}.gcn1.bn", out) | norm_shapes(f"{unit}.tcn1.bn", out)
        expected |= layer_shapes(f"{unit}.tcn1.conv", out, out, 9, 1)
        if number in (5, 8):
            expected |= layer_shapes(f"{unit}.residual.conv", out, into, 1, 1)
            expected |= norm_shapes(f"{unit}.residual.bn", out)
    assert shapes_of("agcn") == expected
    assert len(expected) == (768 - 4 - 2 * 28 - 2 * 4) // 2, "of a file with two queues, 2 BiGRUs and 2 AGCNs"


def test_bigru_has_the_keys_of_the_public_code():
    expected = {}
    for layer, into in enumerate((150, 2048, 2048)):
        for direction in ("", "_reverse"):
            expected |= {f"gru.weight_ih_l{layer}{direction}": (3072, into)}
            expected |= {f"gru.weight_hh_l{layer}{direction}": (3072, 1024)}
            expected |= {f"gru.bias_{part}_l{layer}{direction}": (3072,) for part in ("ih", "hh")}
    assert shapes_of("bigru") == expected


def test_hcn_has_the_keys_of_the_public_code():
    expected = {}
    for branch in ("", "m"):
        expected |= layer_shapes(f"conv1{branch}.0", 64, 3, 1, 1) | layer_shapes(f"conv2{branch}", 64, 64, 3, 1)
        expected |= layer_shapes(f"conv3{branch}.0", 32, 25, 3, 3) | layer_shapes(f"conv4{branch}.0", 64, 32, 3, 3)
    expected |= layer_shapes("conv5.0", 128, 128, 3, 3) | layer_shapes("conv6.0", 256, 128, 3, 3)
    assert shapes_of("hcn") == expected


@pytest.mark.parametrize("kind", ["gru", "lstm", "transformer"])
def test_the_hierarchical_encoder_has_the_keys_of_the_public_code(kind):
    expected = {}
    for branch, size in (("t", 150), ("s", 192)):
        expected |= layer_shapes(f"{branch}_embedding.0", 512, size) | layer_shapes(f"{branch}_embedding.1", 512)
        expected |= layer_shapes(f"{branch}_embedding.3", 512, 512)
        expected |= layer_shapes(f"{branch}_downsample.conv.dw_conv", 512, 1, 5)
        expected |= layer_shapes(f"{branch}_downsample.norm", 512)
        inside = f"{branch}_encoder"
        if kind == "transformer":
            inside += ".layers.0"
            expected |= {f"{inside}.self_attn.in_proj_weight": (1536, 512), f"{inside}.self_attn.in_proj_bias": (1536,)}
            for layer in ("self_attn.out_proj", "linear1", "linear2"):
                expected |= layer_shapes(f"{inside}.{layer}", 512, 512)
            expected |= layer_shapes(f"{inside}.norm1", 512) | layer_shapes(f"{inside}.norm2", 512)
            continue
        gates = {"gru": 768, "lstm": 1024}[kind]
        for direction in ("", "_reverse"):
            expected |= {f"{inside}.weight_ih_l0{direction}": (gates, 512)}
            expected |= {f"{inside}.weight_hh_l0{direction}": (gates, 256)}
            expected |= {f"{inside}.bias_{part}_l0{direction}": (gates,) for part in ("ih", "hh")}
    assert shapes_of(f"hico-{kind}") == expected
    entries = {"gru": 122, "lstm": 122, "transformer": 138}[kind]
    assert len(expected) == (entries - 10) // 2 - 20, "of a file with ten of queues, two encoders, five projectors each"


@pytest.mark.parametrize("case", parity.VECTORS, ids=[case["name"] for case in parity.VECTORS])
@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_features_are_those_of_the_official_codes(case, impl):
    assert parity.encoder_error(case, impl) <= parity.TOLERANCE


@pytest.mark.parametrize("name", SIZES)
def test_a_feature_does_not_depend_on_the_batch(name):
    encoder, clips = moved(small(name)).eval(), clips_of(name, n=5)
    with torch.no_grad():
        together, alone = encoder(clips), torch.cat([encoder(clip[None]) for clip in clips])
    assert together.shape == (5, encoder.feature_dim)
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert encoder(clips[:0]).shape == (0, encoder.feature_dim)


@pytest.mark.parametrize("name", sorted({*SIZES} - {"dgcnn"}))
def test_the_order_of_frames_counts(name):
    encoder, clips = moved(small(name)).eval(), clips_of(name)
    with torch.no_grad():
        forward, backward = encoder(clips), encoder(clips.flip(2))
    assert (forward - backward).abs().amax() > 1e-3 * forward.abs().amax()


def test_clouds_have_no_order():
    encoder, clips = moved(small("dgcnn")).eval().double(), clips_of("dgcnn", n=1, frames=4).double()
    with torch.no_grad():
        torch.testing.assert_close(encoder(clips.flip(2).flip(4)), encoder(clips))


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("persons", [1, 3])
def test_any_skeleton_any_number_of_persons(name, persons):
    frames = {"frames": 19} if "frames" in SMALL[name] else {}
    for skeleton in map(skeletons.get, ("uwa3d15", "nw_ucla20")):
        encoder = small(name, skeleton, persons=persons, **frames)
        clips = clips_of(name, persons=persons, joints=skeleton.num_joints, frames=19)
        encoder(clips).sum().backward()
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in encoder.parameters())


@pytest.mark.parametrize("official", [False, True])
def test_bigru_is_torchs(official):
    encoder = small("bigru", layers=3, official_stepping=official)
    clips = clips_of("bigru")
    frames = clips.permute(0, 2, 3, 1, 4).reshape(3, FRAMES, -1)
    plain = nn.GRU(150, 12, 3, bidirectional=True, batch_first=True)
    plain.load_state_dict(encoder.gru.state_dict())
    if official:  # one frame at a time, states carried along
        states = None
        for frame in frames.split(1, dim=1):
            found, states = plain(frame, states)
        expected = found[:, 0]
    else:
        found, _ = plain(frames)
        expected = torch.cat((found[:, -1, :12], found[:, 0, 12:]), dim=1)
    torch.testing.assert_close(encoder(clips), expected, rtol=1e-4, atol=1e-6)


def test_stepping_makes_a_difference():
    one, other = (small("bigru", official_stepping=official) for official in (False, True))
    assert not torch.allclose(one(clips_of("bigru")), other(clips_of("bigru")), atol=1e-2)


def test_frames_of_a_bigru_are_joints_coordinates_persons():
    encoder = small("bigru")
    clips = torch.zeros(1, 3, FRAMES, 25, 2)
    clips[0, 2, :, 7, 1] = 1.0
    frames = torch.zeros(1, FRAMES, 150)
    frames[:, :, (7 * 3 + 2) * 2 + 1] = 1.0
    _, states = encoder.gru(frames)
    torch.testing.assert_close(encoder(clips), torch.cat((states[-2], states[-1]), dim=1))


def test_levels_make_the_feature_of_the_hierarchical_encoder():
    encoder = small("hico-gru").eval()
    in_time, in_space = encoder.levels(clips_of("hico-gru"))
    assert in_time.shape == in_space.shape == (3, 4, 16)
    assert torch.equal(encoder(clips_of("hico-gru")), torch.cat((in_time.flatten(1), in_space.flatten(1)), dim=1))


def test_the_finest_level_of_the_transformer_has_no_order():
    encoder, clips = small("hico-transformer").eval().double(), clips_of("hico").double()
    shuffled = clips[:, :, torch.randperm(FRAMES)]
    before, after = encoder.levels(clips)[0], encoder.levels(shuffled)[0]
    torch.testing.assert_close(before[:, 0], after[:, 0])
    assert not torch.allclose(before[:, 1], after[:, 1])


class Convolutions(nn.Module):
    """A sequence encoder of somebody's own."""

    def __init__(self, width):
        super().__init__()
        self.layer = nn.Conv1d(width, width + 3, 3, padding=1)
        self.feature_dim = width + 3

    def forward(self, x):
        return self.layer(x.transpose(1, 2)).transpose(1, 2)


def test_any_sequence_encoder_plugs_in():
    encoder = HierarchicalEncoder(NTU, frames=FRAMES, width=16, levels=3, sequence_encoder=Convolutions)
    assert encoder.feature_dim == 2 * 3 * 19
    assert encoder(clips_of("hico")).shape == (3, 114)
    assert encoder.t_encoder is not encoder.s_encoder


WITHOUT_EFFECT = (  # on the feature: a softmax takes out what a column shares, batch statistics what a channel does
    *(f"conv_{which}.{subset}.bias" for which in "ad" for subset in range(3)),
    *("tcn1.conv.bias", "down.0.bias", "residual.conv.bias", "gcn.conv.bias", "tcn.2.bias", "residual.0.bias"),
)


def with_weights(encoder, weights):
    """A copy whose parameters are these tensors; `torch.func.functional_call` does not reach a GRU's."""
    model = copy.deepcopy(encoder).to(next(iter(weights.values())).dtype)
    for key, value in weights.items():
        path, _, name = key.rpartition(".")
        owner = model.get_submodule(path)
        delattr(owner, name)
        setattr(owner, name, value)
    return model


@pytest.mark.parametrize("name", sorted({*SIZES} - {"dgcnn"}))
def test_kernels_and_reference_agree(name):
    """dgcnn is left out: in its graphs, neighbours at nearly the same distance change places by rounding."""
    encoder = moved(small(name)).eval() if "transformer" in name else moved(small(name))
    parameters = dict(encoder.named_parameters())
    wanted = [key for key in parameters if not key.endswith(tuple(WITHOUT_EFFECT))]

    def run(clips, impl="cpu", **weights):
        with skelkern.use(impl):
            return with_weights(encoder, weights)(clips)

    def inputs(seed):
        return {"clips": clips_of(name, seed=seed).double(), **{k: v.double() for k, v in parameters.items()}}

    check_budget(run, inputs, ["clips", *wanted])


@pytest.mark.parametrize("name", SIZES)
def test_wrong_clips_are_named(name):
    encoder = small(name)
    for wrong in (clips_of(name, joints=20), clips_of(name)[:, :2], clips_of(name)[0]):
        with pytest.raises(ValueError, match=r"clips: expected \(N, C, T, V, M\) with C=3, V=25.* found \("):
            encoder(wrong)
    with pytest.raises(TypeError, match="floating-point"):
        encoder(clips_of(name).long())
    with pytest.raises(ValueError, match="at least one frame and one person|T=16|k=4 points"):
        encoder(clips_of(name, frames=0))


@pytest.mark.parametrize("name", ["agcn", "bigru", "hico-gru"])
def test_persons_are_fixed_where_weights_depend_on_them(name):
    with pytest.raises(ValueError, match=r"M=2.* found \(3, 3, 16, 25, 1\)"):
        small(name)(clips_of(name, persons=1))


@pytest.mark.parametrize("name", ["hcn", "hico-gru"])
def test_frames_are_fixed_where_weights_depend_on_them(name):
    with pytest.raises(ValueError, match=r"T=16, found \(3, 3, 17, 25, 2\)"):
        small(name)(clips_of(name, frames=17))


def test_wrong_names_and_options_are_named():
    with pytest.raises(
        ValueError, match=r"encoder: expected one of agcn, .* found 'hico-grp' \(did you mean 'hico-gru'\?\)"
    ):
        encoders.create("hico-grp", "ntu25")
    with pytest.raises(ValueError, match=r"bigru: .*found 'hidden' \(did you mean 'hidden_size'\?\)"):
        encoders.create("bigru", "ntu25", hidden=3)
    with pytest.raises(ValueError, match="found 'sequence_encoder'"):
        encoders.create("hico-gru", "ntu25", sequence_encoder="lstm")
    with pytest.raises(ValueError, match="skeleton: expected one of"):
        encoders.create("agcn", "ntu52")


def test_options_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="levels: expected at least 1 and at most 5, found 6"):
        encoders.create("hico-gru", "ntu25", width=16, frames=16, levels=6)
    with pytest.raises(ValueError, match="frames: expected at least 16, found 15"):
        encoders.create("hcn", "ntu25", frames=15)
    with pytest.raises(ValueError, match="hidden_channels: expected a multiple of 4, found 6"):
        encoders.create("agcn", "ntu25", hidden_channels=6)
    with pytest.raises(ValueError, match="hidden_channels: expected an even number, found 5"):
        encoders.create("hcn", "ntu25", hidden_channels=5)
    with pytest.raises(ValueError, match="width: expected a multiple of 4 heads, found 18"):
        encoders.create("hico-transformer", "ntu25", width=18)
    with pytest.raises(ValueError, match="expected one of 'gru', 'lstm', 'transformer' or a function, found 'rnn'"):
        HierarchicalEncoder(NTU, sequence_encoder="rnn")
    with pytest.raises(ValueError, match="expected a module with an int attribute feature_dim, found Linear"):
        HierarchicalEncoder(NTU, sequence_encoder=lambda width: nn.Linear(width, width))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bigru", {"layers": 1}),
        ("hico-lstm", {"levels": 2}),
        pytest.param("bigru", {"official_stepping": True}, marks=pytest.mark.slow),
        pytest.param("bigru", {}, marks=pytest.mark.slow),
        pytest.param("hico-gru", {}, marks=pytest.mark.slow),
        pytest.param("hico-lstm", {}, marks=pytest.mark.slow),
    ],
)
def test_recurrent_encoders_are_traced_as_one_graph(name, options):
    encoder, clips = small(name, **options), clips_of(name)
    torch.compiler.reset()
    # torch's compiler takes recurrent modules, skelkern's among them, only where it is told to
    with torch._dynamo.config.patch(allow_rnn=True), skelkern.use("cpu"):
        compiled = torch.compile(encoder, fullgraph=True, backend="aot_eager")
        found, expected = compiled(clips), encoder(clips)
        assert torch.equal(found, expected)
        weights = list(encoder.parameters())
        gradients = [torch.autograd.grad(y.square().sum(), weights) for y in (found, expected)]
    assert all(map(torch.equal, *gradients))
