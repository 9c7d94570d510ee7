"""Named preprocessings of a recording: what happens to the sensor's bodies before they enter a store."""

from skelssl.data.preprocessings.agcn import agcn
from skelssl.data.preprocessings.persons import PERSON_PREPROCESSINGS, of_persons
from skelssl.data.recordings import Preprocessing
from skelssl.data.store import StoreError

PREPROCESSINGS: dict[str, Preprocessing] = {
    **{name: of_persons(function) for name, function in PERSON_PREPROCESSINGS.items()},
    "agcn": agcn,
}


def find_preprocessing(name: str) -> Preprocessing:
    """A preprocessing by its name.

    Raises:
        StoreError: there is none of that name.
    """
    if name not in PREPROCESSINGS:
        raise StoreError(f"preprocessing: expected one of {', '.join(PREPROCESSINGS)}, found {name!r}")
    return PREPROCESSINGS[name]
