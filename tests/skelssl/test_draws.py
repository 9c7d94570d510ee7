import pytest
import torch

from skelssl.views.draws import Draws, philox

SAMPLES = torch.arange(4000)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # known answers of Random123
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(counter, key, words):
    found = philox(tuple(torch.tensor(word) for word in counter), key)
    assert tuple(word.item() for word in found) == words


def test_a_draw_depends_on_its_key_alone():
    draws = Draws(seed=3, epoch=5)
    samples = torch.tensor([9, 2, 40000, 7])
    together = draws.uniform(samples, "anchor", "shear", (6,))
    alone = torch.cat([draws.uniform(sample[None], "anchor", "shear", (6,)) for sample in samples])
    assert torch.equal(together, alone)
    assert torch.equal(draws.uniform(samples.flip(0), "anchor", "shear", (6,)), together.flip(0))
    longer = draws.uniform(samples, "anchor", "shear", (9,))
    assert torch.equal(longer[:, :6], together)


def test_words_drawn_together_are_those_drawn_one_by_one():
    draws, samples = Draws(seed=3, epoch=5), torch.tensor([9, 2, 40000])
    together = draws.words_of_steps(samples, ["anchor", "csm"], {"crop": 1, "shear": 6, "nothing": 0, "order": 4})
    assert [tuple(words.shape) for words in together.values()] == [(6, 1), (6, 6), (6, 0), (6, 4)]
    for step, words in together.items():
        alone = [draws.words(samples, view, step, (words.shape[1],)) for view in ("anchor", "csm")]
        assert torch.equal(words, torch.cat(alone))


@pytest.mark.parametrize(
    "other",
    [(Draws(4, 5), "a", "s"), (Draws(3, 6), "a", "s"), (Draws(3, 5), "b", "s"), (Draws(3, 5), "a", "t")],
)
def test_every_part_of_the_key_counts(other):
    draws, view, step = other
    first = Draws(3, 5).words(SAMPLES, "a", "s", ())
    assert (draws.words(SAMPLES, view, step, ()) == first).float().mean() < 0.01


def test_large_seeds_and_samples_do_not_overflow():
    values = Draws(2**63 - 1, 10**6).uniform(torch.tensor([2**40]), "a", "s", (1000,), -2, 3)
    assert -2 <= values.min() < -1.9
    assert 2.9 < values.max() < 3


def test_uniform_normal_and_integers_have_their_moments():
    draws = Draws(0, 0)
    uniform = draws.uniform(SAMPLES, "a", "uniform", (10,)).double()
    assert uniform.mean() == pytest.approx(1 / 2, abs=0.005)
    assert uniform.var() == pytest.approx(1 / 12, abs=0.002)
    normal = draws.normal(SAMPLES, "a", "normal", (10,)).double()
    assert normal.mean() == pytest.approx(0, abs=0.02)
    assert normal.std() == pytest.approx(1, abs=0.02)
    counts = draws.integers(SAMPLES, "a", "integers", 7, (10,)).flatten().bincount(minlength=7)
    assert len(counts) == 7
    assert (counts / 40000 - 1 / 7).abs().max() < 0.01
    assert abs(torch.corrcoef(uniform.T).fill_diagonal_(0)).max() < 0.08


def test_subsets_are_different_ascending_and_fair():
    subset = Draws(0, 0).subset(SAMPLES, "a", "s", total=10, count=4)
    assert (subset.diff(dim=1) > 0).all()
    shares = subset.flatten().bincount(minlength=10) / len(SAMPLES)
    assert (shares - 0.4).abs().max() < 0.04


def test_weighted_subsets_follow_the_law_of_drawing_without_replacement():
    weights = torch.tensor([1.0, 2.0, 3.0])
    subset = Draws(0, 0).weighted_subset(SAMPLES, "a", "s", weights, count=2)
    left_out = (3 - subset.sum(dim=1)).bincount(minlength=3) / len(SAMPLES)
    # joint 0 stays out when 1 and 2 are drawn, in either order: 2/6 · 3/4 + 3/6 · 2/3
    expected = torch.tensor(
        [2 / 6 * 3 / 4 + 3 / 6 * 2 / 3, 1 / 6 * 3 / 5 + 3 / 6 * 1 / 3, 1 / 6 * 2 / 5 + 2 / 6 * 1 / 4]
    )
    assert (left_out - expected).abs().max() < 0.03


def test_permutation():
    orders = [Draws(0, epoch).permutation("loader", "order", 1000) for epoch in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    assert torch.equal(orders[0].sort().values, torch.arange(1000))
