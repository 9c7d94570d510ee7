"""From a recipe to networks."""

from collections.abc import Callable

import torch
from torch import nn

from skelssl import skeletons
from skelssl.data.store import Store
from skelssl.encoders.stgcn import STGCN
from skelssl.engine.recipe import Recipe
from skelssl.methods.method import Method
from skelssl.methods.pstl import PSTL

METHODS: dict[str, Callable[..., Method]] = {"pstl": PSTL}


def build_encoder(recipe: Recipe, store: Store) -> nn.Module:
    """The encoder that the recipe trains, freshly initialised by torch's generator."""
    skeleton = skeletons.get(store.header.skeleton)
    return STGCN(skeleton, in_channels=store.frames.shape[3], **vars(recipe.encoder))


def build_method(recipe: Recipe, store: Store) -> Method:
    """The recipe's method, initialised from its seed; torch's own generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        encoder, skeleton = build_encoder(recipe, store), skeletons.get(store.header.skeleton)
        return METHODS[recipe.method](encoder, skeleton, recipe.method_options)
