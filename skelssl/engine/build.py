"""From a recipe to networks."""

from typing import Any

import torch
from torch import nn

from skelssl import skeletons
from skelssl.data.store import Store
from skelssl.encoders.zoo import create
from skelssl.engine.recipe import Recipe
from skelssl.methods.hico import HiCo
from skelssl.methods.isc import FORMS, ISC
from skelssl.methods.method import Method
from skelssl.methods.pstl import PSTL
from skelssl.methods.scc import SCC, CloudStreams


def build_encoder(recipe: Recipe, store: Store) -> nn.Module:
    """The encoder that the recipe trains, freshly initialised by torch's generator."""
    options: Any = recipe.method_options
    if recipe.method == "isc":
        return _form_encoder(options.forms[0], recipe, store)
    if recipe.method == "hico":
        sizes = {"frames": options.views.frames, "width": options.width, "levels": options.levels}
        return _create(f"hico-{options.encoder}", store, **sizes)
    if recipe.method == "scc":
        return CloudStreams(options)
    return _create("stgcn", store, **vars(recipe.encoder), official_partition=options.official_partition)


def build_method(recipe: Recipe, store: Store) -> Method:
    """The recipe's method, initialised from its seed; torch's own generator stays as it was."""
    skeleton = skeletons.get(store.header.skeleton)
    options: Any = recipe.method_options
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        encoder: Any = build_encoder(recipe, store)
        if recipe.method == "isc":
            others = [_form_encoder(form, recipe, store) for form in options.forms[1:]]
            return ISC((encoder, *others), skeleton, options)
        if recipe.method == "hico":
            return HiCo(encoder, skeleton, options)
        if recipe.method == "scc":
            return SCC(encoder, skeleton, options)
        return PSTL(encoder, skeleton, options)


def _form_encoder(form: str, recipe: Recipe, store: Store) -> nn.Module:
    """ISC's encoder of a form."""
    options: Any = recipe.method_options
    own: dict[str, dict[str, Any]] = {
        "sequence": {
            "hidden_size": options.sequence_width,
            "layers": options.sequence_layers,
            "official_stepping": options.official_stepping,
        },
        "graph": {"hidden_channels": options.graph_channels},
        "image": {"hidden_channels": options.image_channels, "frames": options.views.frames},
    }
    return _create(FORMS[form], store, **own[form])


def _create(name: str, store: Store, **options: Any) -> nn.Module:
    persons, _, channels = store.frames.shape[1:]
    return create(name, store.header.skeleton, channels, persons, **options)
