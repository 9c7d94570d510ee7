"""Named preprocessings of a recording: what happens to the sensor's bodies before they enter a store."""

from functools import partial

from skelssl.data.preprocessings.agcn import agcn
from skelssl.data.preprocessings.aimclr50 import aimclr50
from skelssl.data.preprocessings.ctrgcn import ctrgcn
from skelssl.data.preprocessings.persons import PERSON_PREPROCESSINGS, of_persons
from skelssl.data.preprocessings.pyskl import pyskl, pyskl_aligned
from skelssl.data.recordings import Preprocessing
from skelssl.data.store import StoreError

PREPROCESSINGS: dict[str, Preprocessing] = {
    **{name: of_persons(function) for name, function in PERSON_PREPROCESSINGS.items()},
    "agcn": agcn,
    "aimclr50": aimclr50,
    "aimclr50-official": partial(aimclr50, official=True),
    "ctrgcn": ctrgcn,
    "ctrgcn-official": partial(ctrgcn, official=True),
    "pyskl": pyskl,
    "pyskl-official": partial(pyskl, official=True),
    "pyskl-aligned": pyskl_aligned,
}
UPWARDS = {"agcn": "z"}  # axis that points upwards; of others y in metres, -y in pixels


def find_preprocessing(name: str) -> Preprocessing:
    """A preprocessing by its name.

    Raises:
        StoreError: there is none of that name.
    """
    if name not in PREPROCESSINGS:
        raise StoreError(f"preprocessing: expected one of {', '.join(PREPROCESSINGS)}, found {name!r}")
    return PREPROCESSINGS[name]
