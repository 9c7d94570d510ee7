"""The whole network trained with labels: from the run's weights, and beside it from fresh ones."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from skelssl import skeletons
from skelssl.data.loading import load_sequences
from skelssl.engine.pretrain import reused_memory
from skelssl.engine.recipe import SolverOptions
from skelssl.engine.schedule import learning_rate, make_optimizer
from skelssl.protocols.context import ENCODERS, Context
from skelssl.protocols.features import encode
from skelssl.protocols.results import Result
from skelssl.views.augment import SequenceBatch, sample_views
from skelssl.views.draws import Draws


def run(context: Context) -> list[Result]:
    """Accuracy after the last epoch on all labels; untrained: the same training from fresh weights."""
    seeds = range(context.recipe.evaluation.finetunings)
    correct = {
        name: np.stack([finetuned(context, name, context.samples[0], seed) for seed in seeds]) for name in ENCODERS
    }
    for name in ENCODERS:
        context.predictions[f"{name} finetune 0 last"] = correct[name].mean(axis=0)
    return context.results("finetune", correct, epochs="last")


def finetuned(context: Context, name: str, samples: np.ndarray, seed: int) -> np.ndarray:
    """(S) which test samples a network is right about that was trained on some labelled samples.

    Args:
        context: the run.
        name: "trained" or "untrained", where the encoder begins.
        samples: of the training split, with their labels.
        seed: of the linear layer, the order, dropout, and a fresh encoder.
    """
    encoder = context.trained_encoder() if name == "trained" else context.untrained_encoder(seed)
    with torch.random.fork_rng(devices=[]), reused_memory():
        torch.manual_seed(seed)
        probe = encode(encoder, context.recipe, context.store, samples[:1])
        head = nn.Linear(probe.shape[1], context.classes).to(context.device)
        nn.init.xavier_normal_(head.weight)
        nn.init.zeros_(head.bias)
        _train(encoder, head, context, samples, seed)
        features = encode(encoder, context.recipe, context.store, context.samples[1])
    with torch.no_grad():
        predicted = head.cpu()(features).argmax(dim=1)
    return (predicted == context.labels[1]).numpy().astype(np.float64)


def _train(encoder: nn.Module, head: nn.Linear, context: Context, samples: np.ndarray, seed: int) -> None:
    """Both learn, on plain views; a last batch of a single sample is left out, it has no batch statistics."""
    solver = context.recipe.evaluation.finetune
    optimizer = make_optimizer(solver, [*encoder.parameters(), *head.parameters()])
    sequences = load_sequences(context.store, samples, context.device)
    labels, views = torch.from_numpy(context.store.labels).to(context.device), _plain_views(context)
    encoder.train()
    for epoch in range(solver.epochs):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(solver, epoch)
        for batch in sequences.batches(_batches(solver, torch.from_numpy(samples), Draws(seed, epoch))):
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(encoder(views(batch))), labels[batch.samples]).backward()
            optimizer.step()
    encoder.eval()


def _batches(solver: SolverOptions, samples: Tensor, draws: Draws) -> list[Tensor]:
    order = samples[draws.permutation("finetune", "order", len(samples))]
    return [batch for batch in order.split(solver.batch_size) if len(batch) > 1]


def _plain_views(context: Context) -> Callable[[SequenceBatch], Tensor]:
    """Clips (B, C, T, V, M) of a batch, as evaluation shows them."""
    skeleton, options = skeletons.get(context.store.header.skeleton), context.recipe.method_options
    return lambda batch: sample_views(batch, [options.plain_view(batch.lengths)], options.stream, skeleton)[0]
