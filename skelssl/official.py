"""The published checkpoints of HiCo, ISC and PSTL: their encoders, and whole pre-training states to go on from.

The methods' own options reproduce what the official codes compute; this module knows how their files name things.
"""

import pickle
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from skelssl import skeletons
from skelssl.encoders.zoo import create
from skelssl.methods.hico import HiCo, HiCoOptions
from skelssl.methods.isc import FORMS, ISC, ISCOptions
from skelssl.methods.method import Method

METHODS = ("hico", "isc", "pstl")
State = Mapping[str, Tensor]

# What stands before or beside the networks in a pre-training file, and the heads within a network.
BESIDE = re.compile(r"encoder_[qrkl]\.|[cptsi]_queue(_ptr)?$|queue(_ptr)?$|Queue_S[12]$|queue_ptr_S[12]$")
HEADS = re.compile(r"(clip|part|td|sd|instance)_proj\.|fc\.")
INNER = re.compile(r"hi_encoder\.|encoder\.")  # the encoder within the networks of HiCo and of ISC's sequence form
FORM_KEYS = {"sequence": "gru.weight_ih_l0", "graph": "l1.gcn1.PA", "image": "conv1m.0.weight"}
QUEUES = {"clip": "c", "part": "p", "temporal": "t", "spatial": "s", "instance": "i"}


class OfficialError(ValueError):
    """A file is not what the official code of a method writes."""


def load_encoder(
    method: str, checkpoint: Path | str, *, skeleton: str = "ntu25", persons: int = 2, form: str | None = None
) -> nn.Module:
    """The encoder of a published checkpoint, in evaluation mode.

    Args:
        method: "hico", "isc" or "pstl".
        checkpoint: a `.pth.tar` or `.pt` file of that method's official code, of pre-training or downstream; what else
            it holds (key networks, queues, heads, optimizer) is left out. Nothing in it is executed.
        skeleton: layout of the clips that it was trained on.
        persons: M of these clips.
        form: of ISC, "sequence", "graph" or "image", where the file holds two.

    Returns:
        clips (N, C, T, V, M) -> features (N, F), those that the official downstream code classifies.

    Raises:
        OfficialError: the file is damaged or of another method; the message names every missing or unexpected key.
        ValueError: no such method, form or skeleton.
    """
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, found {method!r}")
    if form is not None and (method != "isc" or form not in FORMS):
        raise ValueError(f"form: expected one of {', '.join(FORMS)}, and only for isc, found {form!r} for {method}")
    state = read_state(checkpoint)
    networks = [_network(state, prefix) for prefix in ("encoder_q.", "encoder_r.")]
    candidates = [network for network in networks if network] or [_network(state, "")]
    own = candidates[0] if method != "isc" else _of_form(candidates, form, str(checkpoint))
    name, options = _encoder_name(method, own, str(checkpoint))
    encoder = create(name, skeleton, persons=persons, **options)
    left_over = {key: value for key, value in state.items() if not BESIDE.match(key)} if any(networks) else {}
    _load(encoder, own | left_over, str(checkpoint))
    return encoder.eval()


def load_method(method: str, state: State, **options: Any) -> Method:
    """A method in the midst of its official pre-training: networks, key networks, queues and pointers.

    Args:
        method: "hico" or "isc".
        state: the official module's state_dict.
        options: of `HiCoOptions` or `ISCOptions`, on top of what the official code has; sizes follow the state.

    Raises:
        OfficialError: a key is missing or has another shape.
        ValueError: no such method.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}
    if method == "hico":
        return _hico(state, options)
    if method == "isc":
        return _isc(state, options)
    raise ValueError(f"method: expected hico or isc, found {method!r}")


def pretraining_step(method: str, state: State, batch: tuple[Tensor, Tensor], **options: Any) -> dict[str, Tensor]:
    """Every loss term that the official main script computes.

    Args:
        method: "hico" or "isc".
        state: the official module's state_dict before the step.
        batch: the two augmented views (N, 3, 64, 25, 2) of the query and the key side.
        options: see `load_method`.
    """
    found: Any = load_method(method, state, **options).train()
    losses: dict[str, Tensor] = found.losses(*batch)
    return losses


def read_state(checkpoint: Path | str) -> dict[str, Tensor]:
    """The state_dict in a checkpoint file, without the prefix of data-parallel training.

    Raises:
        OfficialError: there is no such file, or it holds anything but tensors by name.
    """
    try:
        data = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise OfficialError(f"{checkpoint}: expected a checkpoint, found nothing") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise OfficialError(f"{checkpoint}: cannot be read: {' '.join(str(error).split())[:300]}") from None
    state = data.get("state_dict", data) if isinstance(data, dict) else data
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise OfficialError(f"{checkpoint}: expected tensors by name, or 'state_dict' with them, found other things")
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _network(state: State, prefix: str) -> dict[str, Tensor]:
    """The encoder's keys below a prefix; with none, all that stand beside no network."""
    if prefix:
        own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    else:
        own = {key: value for key, value in state.items() if not BESIDE.match(key)}
    return {INNER.sub("", key, count=1): value for key, value in own.items() if not HEADS.match(key)}


def _of_form(candidates: list[dict[str, Tensor]], form: str | None, where: str) -> dict[str, Tensor]:
    found = {name: own for own in candidates for name, key in FORM_KEYS.items() if key in own}
    if form is None and len(found) == 1:
        return next(iter(found.values()))
    if form is None or form not in found:
        wanted = f"form {form!r}" if form else "one form, or one named by `form`"
        raise OfficialError(f"{where}: expected {wanted}, found {', '.join(found) or 'none of ISC'}")
    return found[form]


def _encoder_name(method: str, own: State, where: str) -> tuple[str, dict[str, Any]]:
    """What of `skelssl.encoders.create` holds an encoder's keys."""
    if method == "pstl":
        return "stgcn", {}
    if method == "isc":
        name = next(name for name, key in FORM_KEYS.items() if key in own)
        return FORMS[name], {"official_stepping": True} if name == "sequence" else {}
    if "t_encoder.layers.0.norm1.weight" in own:
        return "hico-transformer", {}
    recurrent = own.get("t_encoder.weight_hh_l0")
    if recurrent is None:
        raise OfficialError(f"{where}: expected an encoder of HiCo, found no key of 'hi_encoder.t_encoder.'")
    return ("hico-gru" if len(recurrent) == 3 * recurrent.shape[1] else "hico-lstm"), {}


def _load(network: nn.Module, own: State, where: str) -> None:
    """Strict; says everything that does not fit."""
    expected = network.state_dict()
    problems = {
        "missing": [key for key in expected if key not in own],
        "unexpected": [key for key in own if key not in expected],
        "of another shape": [
            f"{key} {tuple(own[key].shape)} for {tuple(value.shape)}"
            for key, value in expected.items()
            if key in own and own[key].shape != value.shape
        ],
    }
    if any(problems.values()):
        listed = "; ".join(f"{name}: {', '.join(keys)}" for name, keys in problems.items() if keys)
        raise OfficialError(f"{where}: the keys are not those of the encoder; {listed}")
    network.load_state_dict(dict(own))


def _hico(state: State, options: dict[str, Any]) -> HiCo:
    name, _ = _encoder_name("hico", _network(state, "encoder_q."), "state")
    sizes: dict[str, Any] = {"queue": _of(state, "i_queue").shape[1], "encoder": name.removeprefix("hico-")}
    skeleton = skeletons.get("ntu25")
    encoder: Any = create(name, skeleton)
    method = HiCo(encoder, skeleton, replace(HiCoOptions(**sizes).official(), **options))
    for name in ("encoder_q", "encoder_k"):
        _load(method.get_submodule(name), _below(state, f"{name}."), "state")
    for own, letter in QUEUES.items():
        _fill_queue(method.get_submodule(f"{own}_queue"), state, f"{letter}_queue", f"{letter}_queue_ptr")
    return method


def _isc(state: State, options: dict[str, Any]) -> ISC:
    prefixes = {"encoder_q.": "encoder_k.", "encoder_r.": "encoder_l."}
    queries = {_form(_network(state, query)): (query, key) for query, key in prefixes.items() if _below(state, query)}
    skeleton = skeletons.get("ntu25")
    chosen = ISCOptions(forms=tuple(queries), queue=_of(state, "Queue_S1").shape[1]).official()
    encoders = [
        create(FORMS[form], skeleton, **({"official_stepping": True} if form == "sequence" else {})) for form in queries
    ]
    method = ISC(tuple(encoders), skeleton, replace(chosen, **options))
    for number, (form, pair) in enumerate(queries.items(), 1):
        for side, prefix in zip(("queries", "keys"), pair, strict=True):
            own = _below(state, prefix)
            network = method.get_submodule(f"{side}.{form}")
            _load(network.get_submodule("encoder"), _network(state, prefix), "state")
            _load(network.get_submodule("fc"), _below(own, "fc."), "state")
        _fill_queue(method.get_submodule(f"queues.{form}"), state, f"Queue_S{number}", f"queue_ptr_S{number}")
    return method


def _form(own: State) -> str:
    for name, key in FORM_KEYS.items():
        if key in own:
            return name
    raise OfficialError(f"state: expected an encoder of ISC, found none of the keys {', '.join(FORM_KEYS.values())}")


def _below(state: State, prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _of(state: State, key: str) -> Tensor:
    if key not in state:
        raise OfficialError(f"state: expected the key {key!r}, found none")
    return state[key]


def _fill_queue(queue: Any, state: State, keys: str, pointer: str) -> None:
    """The official queues hold a key in a column."""
    found = _of(state, keys).T
    if found.shape != queue.queue.shape:
        expected = tuple(queue.queue.T.shape)
        raise OfficialError(f"state: expected {expected} in {keys!r}, found {tuple(found.T.shape)}")
    queue.queue.copy_(found)
    queue.pointer.copy_(_of(state, pointer).reshape(()))
