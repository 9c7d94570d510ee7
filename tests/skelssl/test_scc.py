from dataclasses import fields, replace

import pytest
import torch
from safetensors.torch import load_file

from skelssl import skeletons
from skelssl.data.loading import StreamedSequences, mapped_sequences
from skelssl.engine.log import read_log
from skelssl.engine.pretrain import pretrain
from skelssl.engine.recipe import EvaluationOptions, Recipe, RecipeError, TrainingOptions, load_recipe, names
from skelssl.methods.scc import SCC, CloudStreams, SCCOptions
from skelssl.protocols.evaluate import evaluate
from skelssl.views.augment import SequenceBatch, sample_views
from skelssl.views.clouds import cloud_colours, clouds, ramp, spread_times, visible_points
from skelssl.views.draws import Draws

SKELETON = skeletons.get("nw_ucla20")
SMALL = SCCOptions(frames=6, k=4, feature_dim=16, grid=(5, 6), segments=2)
RED, GREEN, BLUE = [1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]


def make_batch(samples=4, persons=1):
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([3, 17, 6, 9])[:samples]
    frames = torch.randn(int(lengths.sum()), persons, 20, 3, generator=generator)
    return SequenceBatch(
        frames, torch.cat((torch.zeros(1, dtype=torch.int64), lengths.cumsum(0))), torch.arange(samples)
    )


def make_method(**changes):
    torch.manual_seed(0)
    options = replace(SMALL, **changes)
    return SCC(CloudStreams(options), SKELETON, options)


def clips_of(persons=2, frames=5, samples=3):
    return torch.randn(samples, 3, frames, 20, persons, generator=torch.Generator().manual_seed(2))


def test_the_ramp_goes_from_red_over_green_to_blue():
    found = ramp(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
    expected = torch.tensor([RED, [0.5, 0.5, 0], GREEN, [0, 0.5, 0.5], BLUE])
    assert torch.equal(found, expected)
    assert torch.allclose(ramp(torch.rand(100)).sum(dim=1), torch.ones(100))


def test_times_are_frames_from_the_first_to_the_last():
    found = spread_times(torch.tensor([1, 3, 9]), 5)
    assert found.tolist() == [[0, 0, 0, 0, 0], [0, 0, 1, 2, 2], [0, 2, 4, 6, 8]]  # halves to the even frame
    assert spread_times(torch.tensor([3]), 5, whole=False).tolist() == [[0, 0.5, 1, 1.5, 2]]


def test_points_and_colours_have_one_order():
    frames, joints, persons = 4, SKELETON.num_joints, 2
    clips = torch.zeros(1, 3, frames, joints, persons)
    for axis, size in enumerate((frames, joints, persons)):  # every point says which frame, joint and person it is
        shape = [size if axis == other else 1 for other in range(3)]
        clips[0, axis] = torch.arange(1, size + 1).view(shape)
    points = clouds(clips, scale="none").points[0]
    for colouring, axis, count in (("temporal", 0, frames), ("spatial", 1, joints)):
        assert torch.equal(cloud_colours(colouring, SKELETON, frames, persons), ramp(points[:, axis] / count))
        zero_based = cloud_colours(colouring, SKELETON, frames, persons, zero_based=True)
        assert torch.equal(zero_based, ramp((points[:, axis] - 1) / (count - 1)))
    person = cloud_colours("person", SKELETON, frames, persons)
    assert torch.equal(person, torch.tensor([RED, BLUE])[points[:, 2].long() - 1])


def test_coarse_colours_are_those_of_segments_and_parts():
    frames = cloud_colours("temporal", SKELETON, 8, 1, segments=4).view(8, 20, 3)
    assert torch.equal(frames[:, 0], ramp(torch.tensor([1, 1, 2, 2, 3, 3, 4, 4]) / 4))
    assert torch.equal(frames, frames[:, :1].expand_as(frames))
    joints = cloud_colours("spatial", SKELETON, 2, 1, by_part=True).view(2, 20, 3)[0]
    for number, members in enumerate(SKELETON.parts.values()):
        assert torch.equal(joints[list(members)], ramp(torch.tensor((number + 1) / 5)).expand(len(members), 3))
    uneven = cloud_colours("temporal", SKELETON, 7, 1, segments=3).view(7, 20, 3)[:, 0]
    assert len(uneven.unique(dim=0)) == 3


def test_scales():
    clips = clips_of() + torch.tensor([5.0, 0, -3]).view(1, 3, 1, 1, 1)
    cloud = clouds(clips, "cloud").points
    assert torch.allclose(cloud.mean(dim=1), torch.zeros(3, 3), atol=1e-6)
    assert torch.allclose(cloud.abs().amax(dim=(1, 2)), torch.ones(3))
    assert torch.allclose(clouds(3 * clips - 7, "cloud").points, cloud, atol=1e-5)
    axis = clouds(clips, "axis").points
    assert torch.allclose(axis.amin(dim=1), -torch.ones(3, 3), atol=1e-6)
    assert torch.allclose(axis.amax(dim=1), torch.ones(3, 3), atol=1e-6)
    assert torch.equal(clouds(clips, "none").points, clips.flatten(2).transpose(1, 2))


@pytest.mark.parametrize("scale", ["cloud", "axis", "none"])
def test_absent_persons(scale):
    """The second person is absent from the first sample, and from two frames of the second."""
    clips = clips_of()
    clips[0, ..., 1], clips[1, :, 2:4, :, 1] = 0, 0
    there = torch.ones(3, 5, 20, 2, dtype=torch.bool)
    there[0, ..., 1], there[1, 2:4, :, 1] = False, False
    there = there.flatten(1)
    alone = clouds(clips[:1, ..., :1], scale)
    zeros, masked, repeat = (clouds(clips, scale, absent) for absent in ("zeros", "masked", "repeat"))
    assert zeros.mask is None
    assert repeat.mask is None
    assert not zeros.points[~there].any()
    assert torch.equal(masked.mask, there)
    for found in (zeros, masked):
        assert torch.allclose(found.points[0][there[0]], alone.points[0], atol=1e-6)
    both = repeat.points.view(3, 100, 2, 3)
    assert torch.equal(both[0, :, 0], both[0, :, 1])
    assert torch.equal(both[1, :, 0] == both[1, :, 1], ~there[1].view(100, 2)[:, 1:].expand(-1, 3))


@pytest.mark.parametrize("absent", ["zeros", "masked", "repeat"])
def test_a_sample_without_anybody_is_a_cloud_of_zeros(absent):
    found = clouds(torch.zeros(1, 3, 5, 20, 2), "cloud", absent)
    assert not found.points.any()
    assert found.mask is None or found.mask.all()


def test_wrong_clips_are_named():
    with pytest.raises(ValueError, match=r"clips: expected shape \(B, 3, T, V, M\), found \(2, 2, 5, 20, 1\)"):
        clouds(torch.zeros(2, 2, 5, 20, 1))


@pytest.mark.parametrize(("masked", "kept"), [("points", 144), ("frames", 120), ("joints", 144)])
def test_masks(masked, kept):
    """40 % of 6 frames, 20 joints and 2 persons; two frames of six are the nearest."""
    samples = torch.tensor([3, 5])
    found = visible_points(Draws(0, 0), samples, (6, 20, 2), 0.4, masked)
    if masked == "frames":
        kept = 4 * 40
    assert found.shape == (2, kept)
    assert (found.diff(dim=1) > 0).all(), "every point once, in order"
    assert not torch.equal(found[0], found[1])
    assert torch.equal(found[1:], visible_points(Draws(0, 0), samples[1:], (6, 20, 2), 0.4, masked))
    assert not torch.equal(found, visible_points(Draws(0, 1), samples, (6, 20, 2), 0.4, masked)), "fresh every epoch"
    seen = torch.zeros(240, dtype=torch.bool)
    seen[found[0]] = True
    seen = seen.view(6, 20, 2)
    if masked == "frames":
        assert (seen.flatten(1).any(dim=1) == seen.flatten(1).all(dim=1)).all()
    if masked == "joints":
        assert (seen.any(dim=2).any(dim=0) == seen.all(dim=2).all(dim=0)).all()


def test_the_encoder_sees_what_is_left_and_the_loss_everything(monkeypatch):
    method, batch = make_method(masked_ratio=0.5), make_batch()
    shapes = {}
    codes, distance = method.encoder.codes, method._distance
    monkeypatch.setattr(method.encoder, "codes", lambda seen: (shapes.update(seen=seen.points), codes(seen))[1])
    monkeypatch.setattr(
        method, "_distance", lambda whole, *rest: (shapes.update(whole=whole.points), distance(whole, *rest))[1]
    )
    method.training_step(batch, Draws(0, 0), 0)
    assert shapes["seen"].shape == (4, 60, 3)
    assert shapes["whole"].shape == (4, 120, 3)
    visible = visible_points(Draws(0, 0), batch.samples, (6, 20, 1), 0.5, "points")
    assert torch.equal(shapes["seen"][2], shapes["whole"][2][visible[2]])


@pytest.mark.parametrize("loss", ["max_of_means", "sum_of_squares"])
def test_the_loss_by_hand(loss):
    method = make_method(loss=loss, colour_weight=0.5)
    whole = clouds(clips_of(persons=1, frames=6), "cloud")
    painted, colours = torch.rand(3, 30, 6), method._cloud_colours("fine", 1, torch.device("cpu"))
    scale = torch.tensor([1, 1, 1, 0.5, 0.5, 0.5]).sqrt()
    coloured = torch.cat((whole.points, colours.expand(3, -1, -1)), dim=2)
    distances = torch.cdist(coloured.double() * scale, painted.double() * scale)
    there, back = distances.amin(dim=2), distances.amin(dim=1)
    expected = torch.maximum(there.mean(dim=1), back.mean(dim=1)).mean()
    if loss == "sum_of_squares":
        expected = there.square().sum() + back.square().sum()
    assert method._distance(whole, painted, colours).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_loss_does_not_know_which_point_is_which():
    method = make_method()
    whole, painted = clouds(clips_of(persons=1, frames=6)), torch.rand(3, 30, 6)
    colours, order = method._cloud_colours("fine", 1, torch.device("cpu")), torch.randperm(120)
    expected = method._distance(whole, painted, colours)
    mixed = method._distance(replace(whole, points=whole.points[:, order]), painted.flip(1), colours[order])
    assert torch.allclose(mixed, expected)
    assert not torch.allclose(method._distance(whole, painted, colours[order]), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"colouring": "spatial", "granularity": "both"},
        {"granularity": "both", "shared_encoder": True, "surface_channels": 6, "masked_ratio": 0.3},
        {"loss": "sum_of_squares", "bounded_colours": True, "absent": "masked", "rotation": 30.0},
        {"colouring": "person", "absent": "repeat", "stream": "bone", "whole_frames": False, "scale": "axis"},
    ],
)
def test_gradients_reach_every_weight(changes):
    method = make_method(**changes)
    result = method.training_step(make_batch(persons=2), Draws(0, 0), 0)
    assert set(result) == {"loss", *method.options.granularities}
    assert result["loss"].item() == pytest.approx(sum(result[name].item() for name in method.options.granularities))
    result["loss"].backward()
    missing = [name for name, p in method.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []


def test_the_plane_has_its_extent():
    grid = make_method(grid_extent=2.0).decoders["fine"].grid
    assert torch.equal(grid.amax(dim=0), torch.tensor([2.0, 2.0]))
    assert torch.equal(grid.amin(dim=0), torch.tensor([-2.0, -2.0]))


def test_one_encoder_or_two():
    clips = clips_of(persons=1)
    sizes = {}
    for shared in (False, True):
        encoder = make_method(granularity="both", shared_encoder=shared).encoder.eval()
        sizes[shared] = encoder.feature_dim
        assert encoder(clips).shape == (3, encoder.feature_dim)
    assert sizes == {False: 32, True: 16}


def test_features_know_neither_order_nor_absent_persons():
    encoder = make_method(absent="masked").encoder.eval()
    clips = clips_of()
    clips[..., 1] = 0
    alone = encoder(clips[..., :1])
    assert torch.allclose(encoder(clips), alone, atol=1e-6)
    assert torch.allclose(encoder(clips[:, :, torch.randperm(5)]), alone, atol=1e-6)
    assert torch.allclose(encoder(clips.flip(4)), alone, atol=1e-6)
    assert not torch.allclose(make_method().encoder.eval()(clips), alone, atol=1e-5)


def test_evaluation_shows_the_frames_of_pre_training_and_forgets_the_batch(monkeypatch):
    method, batch = make_method(), make_batch()
    seen = []
    monkeypatch.setattr(method.encoder, "codes", lambda cloud: seen.append(cloud.points) or [torch.zeros(4, 16)])
    method.training_step(batch, Draws(0, 0), 0)
    clips = sample_views(batch, [method.options.plain_view(batch.lengths)], "joint", SKELETON)[0]
    method.encoder(clips)
    assert torch.equal(*seen)
    monkeypatch.undo()
    encoder = method.encoder.eval()
    many = torch.cat([clips] * 9)  # more than are encoded together
    assert torch.allclose(encoder(many), encoder(clips).repeat(9, 1), atol=1e-6)


def test_rotations_keep_the_height():
    method, batch = make_method(rotation=180.0), make_batch()
    clips = sample_views(batch, [method._plan(batch, Draws(0, 0))], "joint", SKELETON)[0]
    plain = sample_views(batch, [method.options.plain_view(batch.lengths)], "joint", SKELETON)[0]
    assert torch.allclose(clips[:, 1], plain[:, 1], atol=1e-6)
    assert torch.allclose(clips.square().sum(dim=1), plain.square().sum(dim=1), atol=1e-5)
    assert not torch.allclose(clips[:, 0], plain[:, 0], atol=0.1)


def test_a_step_is_a_function_of_seed_and_epoch():
    losses = []
    for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0)):
        method = make_method(masked_ratio=0.4)
        losses.append(method.training_step(make_batch(), Draws(seed, epoch), 3)["loss"].item())
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


def test_streamed_frames_give_the_loss_of_resident_ones(store):
    steps = [torch.tensor([4, 1, 9]), torch.tensor([0, 2])]
    losses = []
    for sequences in (mapped_sequences(store), StreamedSequences(store, torch.device("cpu"))):
        method = make_method(masked_ratio=0.4, rotation=20.0)
        losses.append(
            [method.training_step(batch, Draws(0, 0), 0)["loss"].item() for batch in sequences.batches(steps)]
        )
    assert losses[0] == losses[1]


def test_official_options_are_those_of_the_paper():
    tuned = replace(SMALL, colouring="spatial", granularity="both", masked_ratio=0.4, loss="sum_of_squares")
    official = tuned.official()
    assert (official.frames, official.colouring, official.grid) == (6, "spatial", (5, 6))
    assert official == SCCOptions(frames=6, colouring="spatial", grid=(5, 6))
    assert (official.k, official.feature_dim, official.loss) == (20, 1024, "max_of_means")


def test_every_option_has_a_line():
    for field in fields(SCCOptions):
        assert f" {field.name}:" in SCCOptions.__doc__, field.name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"absent": "gone"}, "absent: expected one of zeros, masked, repeat, found 'gone'"),
        ({"frames": 0}, "frames: expected at least 1, found 0"),
        ({"segments": 7}, "segments: expected 1 to frames=6, found 7"),
        ({"masked_ratio": 1.0}, "masked_ratio: expected 0 to less than 1, found 1.0"),
        ({"colour_weight": -1.0}, "colour_weight: expected at least 0, found -1.0"),
        ({"colouring": "person", "granularity": "both"}, 'granularity: expected "fine" of "person" colours, found'),
        ({"grid_extent": 0.0}, "grid_extent: expected more than 0, found 0.0"),
        ({"surface_channels": 4}, "surface_channels: expected 3 or 6, found 4"),
        ({"k": 61, "masked_ratio": 0.5}, "k: expected at most the 60 visible points of a person, found 61"),
    ],
)
def test_options_out_of_range(changes, message):
    with pytest.raises(ValueError, match=message):
        make_method(**changes)


def test_person_colours_need_two_persons():
    with pytest.raises(ValueError, match='colouring: expected at least two persons for "person", found 1'):
        make_method(colouring="person").training_step(make_batch(), Draws(0, 0), 0)


RECIPE = Recipe(
    dataset="tiny",
    preprocessing="raw",
    method="scc",
    scc=replace(SMALL, granularity="both", masked_ratio=0.2),
    training=TrainingOptions(epochs=2, batch_size=8, warmup_epochs=0, learning_rate=1e-3),
    evaluation=EvaluationOptions(linear_epochs=10, initialisations=1),
)


def test_a_run(store, tmp_path):
    run = pretrain(RECIPE, store, tmp_path / "run")
    rows = read_log(run)
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])
    assert {"fine", "coarse"} <= set(rows[0])
    weights = load_file(run / "encoder.safetensors")
    assert {name.split(".")[1] for name in weights} == {"0", "1"}, "two encoders and no decoder"
    results = evaluate(run, store)
    assert {(result.protocol, result.encoder) for result in results} == {
        (protocol, encoder) for protocol in ("linear", "knn") for encoder in ("trained", "untrained")
    }
    assert all(result.method == "scc" for result in results)


@pytest.mark.parametrize("name", [name for name in names() if name.startswith("scc-")])
def test_recipes_fit_their_data(name):
    recipe = load_recipe(name)
    options = recipe.scc
    joints, persons = {"nw-ucla": (20, 1), "uwa3d": (15, 1)}.get(recipe.dataset, (25, 2))
    rows, columns = options.grid
    assert rows * columns == pytest.approx(options.frames * joints * persons, rel=0.03)
    assert options.colouring != "person" or persons == 2
    assert name.endswith(options.colouring)


def test_options_of_another_method_are_errors():
    with pytest.raises(RecipeError, match="unknown key 'pstl.frames'"):
        load_recipe("scc-nw-ucla-temporal", ["--pstl.frames=3"])
