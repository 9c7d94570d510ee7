"""HiCo, ISC and the views that they share."""

from dataclasses import replace

import pytest
import torch

from skelssl import skeletons
from skelssl.encoders.zoo import create
from skelssl.methods.hico import HiCo, HiCoOptions
from skelssl.methods.isc import ISC, ISCOptions
from skelssl.views.augment import SequenceBatch, sample_views
from skelssl.views.augmentations import crop_resize
from skelssl.views.contrast import ContrastOptions, central_crops, contrast_views, words_needed
from skelssl.views.draws import Draws

SKELETON = skeletons.get("ntu25")
LENGTHS = (37, 1, 300, 120, 64, 90)
VIEWS = ContrastOptions(frames=16, corrupted_joints=(15, 15))
HICO = HiCoOptions(views=VIEWS, encoder="gru", width=8, levels=3, projection=6, projection_hidden=8, queue=24)
ISC_OPTIONS = ISCOptions(forms=("sequence", "graph"), views=VIEWS, projection=6, queue=24)


@pytest.fixture
def batch():
    frames = torch.randn(sum(LENGTHS), 2, 25, 3, generator=torch.Generator().manual_seed(0))
    offsets = torch.tensor([0, *LENGTHS]).cumsum(0)
    return SequenceBatch(frames, offsets, torch.arange(len(LENGTHS)))


def words(rows, seed=0):
    return Draws(seed, 0).words_of_steps(torch.arange(rows), ["view"], words_needed(25))


def make_hico(options=HICO, kind="gru"):
    torch.manual_seed(0)
    sizes = {"frames": options.views.frames, "width": options.width, "levels": options.levels}
    return HiCo(create(f"hico-{kind}", SKELETON, **sizes), SKELETON, options).train()


def make_isc(options=ISC_OPTIONS):
    torch.manual_seed(0)
    small = {"sequence": ("bigru", {"hidden_size": 6}), "graph": ("agcn", {}), "image": ("hcn", {"frames": 16})}
    encoders = [create(small[form][0], SKELETON, **small[form][1]) for form in options.forms]
    return ISC(tuple(encoders), SKELETON, options).train()


class TestViews:
    def test_crops_are_as_long_as_they_should(self):
        lengths = torch.tensor([50, 300]).repeat_interleave(2000)
        plan = crop_resize(lengths, words(len(lengths)), frames=64)
        short, long = plan.times[:2000], plan.times[2000:]
        torch.testing.assert_close(short, short[:1].expand_as(short), msg="a short sequence is never cropped")
        spans = (long[:, -1] - long[:, 0]) * 64 / 63  # of the resized crop, whose ends lie half a step inside
        assert spans.min() > 62 and 290 < spans.max() <= 301
        # a share U(0.1, 1) of 300 frames, at least 64 of them
        assert spans.mean() == pytest.approx((64 * 34 + sum(range(64, 300))) / 270, rel=0.03)
        assert long.min() >= 0 and long.max() <= 299
        assert (plan.next_times[:, :-1] == plan.times[:, 1:]).all()
        assert (plan.next_times[:, -1] == plan.times[:, -1]).all(), "there is no motion at the end"

    def test_one_augmentation_a_view(self):
        rows = 4000
        plan = contrast_views(torch.full((rows,), 80), words(rows), ContrastOptions())
        sheared = plan.linear_joints.all(dim=1) & plan.joint_keep.all(dim=1)
        lost = ~plan.joint_keep.all(dim=1)
        mapped = ~sheared & ~lost
        for share, expected in ((sheared, 0.5), (lost, 0.25), (mapped, 0.25)):
            assert share.float().mean().item() == pytest.approx(expected, abs=0.03)
        assert ((~plan.joint_keep[lost]).sum(dim=1) == 15).all()
        assert not plan.linear_joints[lost].any() and (plan.linear_joints[mapped].sum(dim=1) == 15).all()
        diagonal = plan.linear.diagonal(dim1=1, dim2=2)
        assert (diagonal[sheared] == 1).all() and diagonal[mapped].abs().max() < 1
        assert plan.linear.abs().max() <= 1 and plan.linear[sheared].mean(dim=0)[0, 1].abs() < 0.06

    def test_other_numbers_of_joints(self):
        rows = 3000
        plan = contrast_views(torch.full((rows,), 80), words(rows), ContrastOptions(corrupted_joints=(5, 10)))
        counts = (~plan.joint_keep).sum(dim=1)
        assert set(counts.tolist()) == {0, 5, 6, 7, 8, 9, 10}
        assert torch.bincount((~plan.joint_keep).long().argmax(dim=1), minlength=5)[:5].min() > 0

    def test_views_of_a_sequence(self, batch):
        """Lost joints are 0, mapped ones linear in the points, and all else as in the plain clip."""
        drawn = words(len(LENGTHS))
        plan = contrast_views(batch.lengths, drawn, VIEWS)
        [found] = sample_views(batch, [plan], "joint", SKELETON)
        [plain] = sample_views(batch, [crop_resize(batch.lengths, drawn, VIEWS.frames)], "joint", SKELETON)
        mapped = torch.einsum("nctvm,ncd->ndtvm", plain, plan.linear)
        joints = plan.linear_joints[:, None, None, :, None]
        expected = torch.where(joints, mapped, plain) * plan.joint_keep[:, None, None, :, None]
        torch.testing.assert_close(found, expected)

    def test_evaluation_shows_the_middle(self):
        plan = central_crops(torch.tensor([100, 40, 1]), ContrastOptions(frames=8, central=0.95))
        # int(0.05 · 100 / 2) = 2 frames less at either end; resized times lie half a step inside the crop
        step = 96 / 8
        assert plan.times[0].tolist() == pytest.approx([2 + step * (i + 0.5) - 0.5 for i in range(8)])
        assert plan.times[1, 0] == pytest.approx(1 + 38 / 8 / 2 - 0.5) and plan.times[2].tolist() == [0] * 8


@pytest.mark.parametrize("make", [make_hico, make_isc])
class TestBoth:
    def test_a_step_learns_and_moves_keys_and_queues(self, make, batch):
        method = make()
        before = {name: value.clone() for name, value in method.state_dict().items()}
        values = method.training_step(batch, Draws(0, 0), 0)
        values["loss"].backward()
        assert values["loss"].item() == pytest.approx(sum(v.item() for name, v in values.items() if name != "loss"))
        for name, parameter in method.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
            else:
                torch.testing.assert_close(parameter, before[name])  # keys are still copies of the queries
        changed = {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])}
        queues = {name for name in before if name.endswith(("queue", "pointer"))}
        assert {name for name in queues if name.endswith("queue")} <= changed

    def test_keys_follow_by_momentum(self, make, batch):
        method = make()
        keys = [p for p in method.parameters() if not p.requires_grad]
        queries = [p for p in method.parameters() if p.requires_grad]
        assert len(keys) == len(queries)
        with torch.no_grad():
            for query in queries:
                query.add_(1.0)
        method.training_step(batch, Draws(0, 0), 0)
        for query, key in zip(queries, keys, strict=True):
            assert (query - key).mean().item() == pytest.approx(0.999, rel=1e-3)

    def test_draws_decide_alone(self, make, batch):
        losses = [make().training_step(batch, Draws(0, epoch), 0)["loss"].item() for epoch in (0, 0, 1)]
        assert losses[0] == losses[1] != losses[2]

    def test_evaluation_encodes_clips(self, make, batch):
        method = make().eval()
        [clips] = sample_views(batch, [method.options.plain_view(batch.lengths)], "joint", SKELETON)
        features = method.encoder(clips)
        assert features.shape == (len(LENGTHS), method.encoder.feature_dim)
        torch.testing.assert_close(method.encoder(clips[:2]), features[:2], rtol=1e-4, atol=1e-4)


class TestHiCo:
    def test_domains_are_crossed_and_the_finest_level_is_the_anchor(self, batch):
        """By hand, from the projections."""
        method = make_hico()
        first, second = (torch.randn(5, 3, 16, 25, 2, generator=torch.Generator().manual_seed(n)) for n in (1, 2))
        with torch.no_grad():
            query, key = method.encoder_q(first), method.encoder_k(second)
        queues = {name: getattr(method, f"{name}_queue").queue.clone() for name in ("clip", "spatial", "temporal")}
        found = method.losses(first, second)

        def loss(queries, positives, queue):
            own = (queries[:, None] * positives).sum(dim=2) / 0.2
            everything = torch.cat((own, queries @ queue.T / 0.2), dim=1)
            return (everything.logsumexp(dim=1) - own.logsumexp(dim=1)).mean().item()

        assert found["clip"].item() == pytest.approx(loss(query.clip[:, 0], key.clip, queues["clip"]), rel=1e-5)
        crossed = loss(query.temporal, key.spatial[:, None], queues["spatial"])
        crossed += loss(query.spatial, key.temporal[:, None], queues["temporal"])
        assert found["domain"].item() == pytest.approx(crossed, rel=1e-5)
        written = method.clip_queue.queue[:15]
        torch.testing.assert_close(written, key.clip.reshape(15, 6), msg="sample by sample, its levels together")

    def test_projections_are_unit_vectors(self):
        found = make_hico().encoder_q(torch.randn(2, 3, 16, 25, 2))
        assert [tuple(part.shape) for part in found] == [(2, 3, 6)] * 2 + [(2, 6)] * 3
        for part in found:
            torch.testing.assert_close(part.norm(dim=-1), torch.ones(part.shape[:-1]))

    def test_official_pointers_wrap_early(self, batch):
        method = make_hico(HICO.official())
        before = method.clip_queue.queue.clone()
        for step in range(5):
            method.training_step(batch, Draws(0, step), step)
        assert torch.equal(method.clip_queue.queue[24:], before[24:]), "72 keys, of which 24 are ever written"
        ours = make_hico()
        for step in range(5):
            ours.training_step(batch, Draws(0, step), step)
        assert not torch.isclose(ours.clip_queue.queue, before).all(dim=1).any()


class TestISC:
    def test_forms_contrast_with_each_other(self):
        method = make_isc(ISC_OPTIONS)
        first, second = (torch.randn(5, 3, 16, 25, 2, generator=torch.Generator().manual_seed(n)) for n in (1, 2))
        with torch.no_grad():
            query = {form: network(first) for form, network in method.queries.items()}
            key = {form: network(second) for form, network in method.keys.items()}
        queues = {form: queue.queue.clone() for form, queue in method.queues.items()}
        # what batch statistics moved does not count in training
        found = method.losses(first, second)
        for form, other in (("sequence", "graph"), ("graph", "sequence")):
            own = (query[form] * key[other]).sum(dim=1) / 0.07
            everything = torch.cat((own[:, None], query[form] @ queues[other].T / 0.07), dim=1)
            expected = (everything.logsumexp(dim=1) - own).mean().item()
            assert found[form].item() == pytest.approx(expected, rel=1e-4)
            torch.testing.assert_close(method.queues[form].queue[:5], key[form], rtol=1e-4, atol=1e-4)

    def test_one_form_contrasts_with_itself(self, batch):
        method = make_isc(replace(ISC_OPTIONS, forms=("sequence",)))
        values = method.training_step(batch, Draws(0, 0), 0)
        assert set(values) == {"loss", "sequence"} and set(method.queues) == {"sequence"}

    def test_official_options(self, batch):
        official = ISC_OPTIONS.official()
        assert (official.official_stepping, official.virtual_batch, official.enqueued_share) == (True, 16, 0.25)
        method = make_isc(replace(ISC_OPTIONS, forms=("graph",), virtual_batch=3, enqueued_share=0.5))
        method.training_step(batch, Draws(0, 0), 0)
        assert method.queues["graph"].pointer.item() == 3
        network = method.queries["graph"]
        clips = torch.randn(6, 3, 16, 25, 2)
        parts = torch.cat([network(part) for part in clips.split(3)])
        torch.testing.assert_close(network(clips), parts, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (replace(HICO, temperature=0.0), "temperature: expected more than 0, found 0.0"),
        (replace(HICO, momentum=1.5), "momentum: expected 0 to 1, found 1.5"),
        (
            replace(HICO, views=replace(VIEWS, corrupted_joints=(15, 26))),
            "views.corrupted_joints: expected two numbers of 0 to the skeleton's 25 joints",
        ),
    ],
)
def test_wrong_options_of_hico(options, message):
    with pytest.raises(ValueError, match=message):
        make_hico(options)


def test_wrong_forms():
    for forms in ((), ("graph", "graph"), ("graph", "sound"), ("graph", "image", "sequence")):
        with pytest.raises(ValueError, match="forms: expected one or two of sequence, graph, image, found"):
            ISC((), SKELETON, replace(ISC_OPTIONS, forms=forms))
    with pytest.raises(ValueError, match=r"encoders: expected one for each form \(sequence, graph\), found 0"):
        ISC((), SKELETON, ISC_OPTIONS)
