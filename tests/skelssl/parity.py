"""How far encoders and losses are from the official codes: `python tests/skelssl/parity.py` prints the table.

The official numbers are what those codes compute from weights and clips filled by a rule, which needs no random
numbers: features of encoders alone (`encoder_vectors.json`), and below losses of the first step of pre-training and
features of whole checkpoints (states and views of official_states.py).
"""

import json
import math
import tempfile
from pathlib import Path

import official_states as states
import torch

import skelkern
from skelssl import encoders, skeletons
from skelssl.methods.pstl import PSTL, PSTLOptions
from skelssl.official import load_encoder, load_method

TOLERANCE = 1e-4  # float32 on either side, sums in other orders
SMALL = 0.2  # numbers of checkpoints have five decimals: below this the error is relative to it
VECTORS = json.loads((Path(__file__).parent / "encoder_vectors.json").read_text())

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
    ("sequence", "graph"): (
        [4.717841, 4.519987],
        [
            ([-0.2277, 0.95925, 0.07209, -0.50725], 51.4102),
            ([58129.41406, 39883.69531, 49991.0, 40461.125], 1304841.25),
        ],
    ),
    ("graph", "image"): (
        [4.426908, 4.308153],
        [
            ([383887.125, 127912.0625, 172783.32812, 135683.375], 6573342.0),
            ([35.75768, 0.0, 103.98651, 39.14804], 9431.9414),
        ],
    ),
}

# Losses of the temporally and of the spatially masked stream, by a projector of 128; of whole clips, and of clips
# without some joints, the feature of the second clip at places 0, 5, 128 and 255, and the norm of all features.
PSTL_LOSSES = [231.069092, 362.682465]
PSTL_FEATURES = [([0.32932, 0.0074, 0.03109, 0.04732], 7.8355), ([0.32931, 0.0074, 0.0311, 0.04733], 7.8349)]
ABSENT = (3, 7, 11, 20, 24)


def error(found, expected, small=0.0):
    """The largest relative error, of numbers below `small` relative to it."""
    found, expected = (torch.as_tensor(values, dtype=torch.float64) for values in (found, expected))
    return ((found - expected).abs() / expected.abs().clamp(min=small)).max().item()


def without_dropout(method):
    for module in method.modules():
        if "Dropout" in type(module).__name__:
            module.p = 0.0
    return method


def save(state, path, prefix=""):
    torch.save({"epoch": 450, "state_dict": {prefix + key: value for key, value in state.items()}}, path)
    return path


def encoder_error(case, impl):
    """Of a case in VECTORS, every `step`-th feature in evaluation mode; relative to the largest feature."""
    encoder = encoders.create(case["encoder"], "ntu25", **case["options"]).eval()
    encoder.load_state_dict(ruled_weights(encoder))
    with torch.no_grad(), skelkern.use(impl):
        found = encoder(ruled_clips(case["frames"]))
    expected = torch.tensor(case["features"])
    return error(found[:, :: case["step"]], expected, small=expected.abs().max().item())


def hico_errors(kind):
    """Of every loss term of HiCo's first step, and of the features of its checkpoint."""
    losses, places, norm = HICO[kind]
    state, views = states.filled(states.hico_shapes(kind)), states.views()
    found = without_dropout(load_method("hico", state)).train().losses(*views)
    names = ("clip", "part", "domain", "instance")
    errors = {f"loss {name}": error(found[name].item(), value) for name, value in zip(names, losses, strict=True)}
    errors["loss"] = error(found["loss"].item(), sum(losses))
    return errors | feature_errors("hico", state, views[0], [0, 100, 2047, 2048, 4095], places, norm)


def isc_errors(pair):
    """Of either loss term of ISC's first step, and of the features of both encoders of its checkpoint."""
    losses, features = ISC[pair]
    state, views = states.filled(states.isc_shapes(*pair)), states.views()
    found = without_dropout(load_method("isc", state, virtual_batch=0)).train().losses(*views)
    errors = {f"loss {form}": error(found[form].item(), value) for form, value in zip(pair, losses, strict=True)}
    for form, (places, norm) in zip(pair, features, strict=True):
        width = {"sequence": 2048, "graph": 256, "image": 4096}[form]
        chosen = [0, 5, width // 2, width - 1]
        errors |= feature_errors("isc", state, views[0], chosen, places, norm, form)
    return errors


def pstl_errors():
    """Of either loss term of PSTL's first step, and of the features of its checkpoint, with and without joints."""
    encoder, projector = states.pstl_states(128)
    anchor, still = states.views(8)
    partial, kept = still.flip(0), torch.tensor([joint for joint in range(25) if joint not in ABSENT])
    options = PSTLOptions(projector=128).official()
    method = PSTL(encoders.create("stgcn", "ntu25", official_partition=True), skeletons.get("ntu25"), options)
    method.load_state_dict({f"encoder.{key}": value for key, value in encoder.items()} | projector)
    found = without_dropout(method).train().losses(anchor, still, partial, kept)
    names = ("matm", "csm")
    errors = {f"loss {name}": error(found[name].item(), value) for name, value in zip(names, PSTL_LOSSES, strict=True)}
    errors["loss"] = error(found["loss"].item(), sum(PSTL_LOSSES))
    whole, lacking = (
        feature_errors("pstl", encoder, clips, [0, 5, 128, 255], *expected, joints=joints)
        for clips, joints, expected in zip((anchor, partial), ((), (kept,)), PSTL_FEATURES, strict=True)
    )
    return errors | whole | {f"{name} without joints": value for name, value in lacking.items()}


def feature_errors(method, state, clips, chosen, places, norm, form=None, joints=()):
    """Of features at chosen places and of the norm of all, through a checkpoint file as the official code writes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = save(state, Path(folder) / "checkpoint_0450.pth.tar", "module." if method == "isc" else "")
        encoder = load_encoder(method, path, form=form)
    with torch.no_grad():
        features = encoder(clips, *joints)
    label = f"features {form}" if form else "features"
    return {label: error(features[1, chosen], places, SMALL), f"{label}, norm": error(features.norm(), norm)}


def ruled_weights(encoder):
    """Weights by a rule that needs no generator, in the order of their names."""
    state = {}
    for number, (key, value) in enumerate(sorted(encoder.state_dict().items())):
        wave = torch.cos(0.7 * (torch.arange(value.numel()).square() % 1009).double() + number).view(value.shape)
        if not value.is_floating_point():
            state[key] = value
        elif value.dim() > 1:
            state[key] = (wave / math.sqrt(value[0].numel())).float()
        elif key.endswith(("running_var", "weight")):
            state[key] = (0.6 + 0.3 * wave).float()
        else:
            state[key] = (0.2 * wave).float()
    return state


def ruled_clips(frames):
    sizes = (2, 3, frames, 25, 2)
    values = torch.arange(math.prod(sizes), dtype=torch.float64)
    return (torch.sin(values * 0.37) + torch.cos(values * values * 1e-4)).view(sizes).float()


def main():
    rows = {}
    for case in VECTORS:
        rows |= {f"{case['name']}, features, {impl}": encoder_error(case, impl) for impl in ("auto", "reference")}
    for kind in HICO:
        rows |= {f"HiCo, {kind}, {name}": value for name, value in hico_errors(kind).items()}
    for pair in ISC:
        rows |= {f"ISC, {' and '.join(pair)}, {name}": value for name, value in isc_errors(pair).items()}
    rows |= {f"PSTL, {name}": value for name, value in pstl_errors().items()}
    print(f"largest relative error to the official code's numbers (tests demand {TOLERANCE:g})")
    for name, value in rows.items():
        print(f"{name:55} {value:.1e}")


if __name__ == "__main__":
    main()
