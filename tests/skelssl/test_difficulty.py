import re

import numpy as np
import pytest
import torch

from skelssl import skeletons
from skelssl.data.synthetic.dataset import synthesise
from skelssl.encoders.stgcn import STGCN
from skelssl.protocols import difficulty


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return synthesise(tmp_path_factory.mktemp("data") / "store", 3, 2, actions=["sit down", "stand up", "push"])


def test_both_accuracies_are_printed_and_depend_on_the_seed_alone(small, capsys):
    printed = []
    for _ in range(2):
        difficulty.main([str(small.path), "--epochs", "1"])
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert "3 classes, 36 training and 18 test samples of xsub, seed 0" in printed[0]
    assert len(re.findall(r": \d+\.\d %$", printed[0], re.MULTILINE)) == 2


def test_a_linear_layer_tells_what_lies_far_apart(small):
    """Sitting down from standing up: the first and the last frames are enough."""
    train, test = small.select("xsub_train"), small.select("xsub_test")
    assert difficulty.linear_accuracy(small, train, test) > 50


def test_absent_persons_do_not_count():
    torch.manual_seed(0)
    encoder = STGCN(skeletons.get("ntu25"), hidden_channels=4, feature_dim=8, dropout=0.0)
    model = difficulty.Classifier(encoder, 3).eval()
    one = torch.randn(2, 3, 16, 25, 1)
    two = torch.cat([one, torch.zeros_like(one)], dim=-1)
    np.testing.assert_allclose(model(two).detach(), model(one).detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_generated_motions_are_hard_for_a_linear_layer(tmp_path):
    store = synthesise(tmp_path / "store")
    assert 40 < difficulty.linear_accuracy(store, store.select("xsub_train"), store.select("xsub_test")) <= 60
