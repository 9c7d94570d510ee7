import builtins
import io
import os
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest
from fuzz import mutations

from skelssl.data.store import StoreError
from skelssl.data.unpickle import unpickle

CONTENT = {
    "float": np.arange(24, dtype="f4").reshape(2, 3, 4),
    "by columns": np.asfortranarray(np.arange(60.0).reshape(6, 10)),
    "half": np.arange(5, dtype="f2"),
    "big endian": np.arange(3, dtype=">i4"),
    "turned": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    "text": np.array(["ab", "cdé"]),
    "bytes": np.array([b"ab"]),
    "empty": np.zeros((0, 3)),
    "flags": np.array([True, False]),
    "scalars": [np.float32(2), np.int64(3), np.bool_(True)],
    "ordered": OrderedDict([("x", 1)]),
    "plain": [1, -5, 2**70, 2.5, None, True, "é" * 100, b"", b"\x00\xff", ("a", "b" * 500, (1, 2))],
}


def check_equal(found, expected):
    if isinstance(expected, np.ndarray):
        assert isinstance(found, np.ndarray) and found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, (list, tuple)):
        assert type(found) is type(expected) and len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            check_equal(one, other)
    elif isinstance(expected, dict):
        assert type(found) is type(expected) and list(found) == list(expected)
        for key in expected:
            check_equal(found[key], expected[key])
    else:
        assert found == expected


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("module", [b"numpy._core", b"numpy.core"])
def test_all_protocols_of_both_numpys(protocol, module):
    content = dict(CONTENT, same=CONTENT["float"])
    pickled = pickle.dumps(content, protocol=protocol)
    if module == b"numpy.core" and protocol < 4:  # later ones state lengths
        pickled = pickled.replace(b"numpy._core", module)
    found = unpickle(pickled)
    check_equal(found, content)
    assert found["same"] is found["float"]


def test_python_2_text_is_latin1():
    names = b"(lp0\nS'S001C001P001R001A001.skeleton'\np1\naS'\\xe9'\na."
    assert unpickle(names) == ["S001C001P001R001A001.skeleton", "é"]
    data = np.arange(40, dtype="<f4")
    found = unpickle(array_pickle(shape=b"K\x28\x85", data=data.tobytes(), written=b"T"))
    np.testing.assert_array_equal(found, data)


def test_arrays_are_views_of_the_mapped_file(tmp_path):
    with (tmp_path / "a.pkl").open("wb") as file:
        pickle.dump({"x": np.ones((1000, 75), np.float32)}, file, protocol=4)
    found = unpickle(tmp_path / "a.pkl")["x"]
    assert not found.flags.owndata and not found.flags.writeable and found.sum() == 75000


class Reduced:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def reduced(*call, protocol=2):
    return pickle.dumps(Reduced(*call), protocol=protocol)


NO_PARTS = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"
MADE = b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\n%s\nK\x00\x85U\x01b\x87R"


def array_pickle(shape=b"K\x02\x85", data=b"\x00" * 8, order=b"<", parts=NO_PARTS, written=b"B"):
    dtype = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01" + order + parts + b"tb"
    return (
        MADE % b"ndarray" + b"(K\x01" + shape + dtype + b"\x89" + written + struct.pack("<I", len(data)) + data + b"tb."
    )


HOSTILE = {
    "os.system": (reduced(os.system, ("true",)), "system"),
    "builtins.eval": (reduced(builtins.eval, ("1",), protocol=4), "found builtins.eval"),
    "getattr": (reduced(getattr, ("a", "join")), "found __builtin__.getattr"),
    "numpy.load": (reduced(np.load, ("a",), protocol=4), "numpy.*load"),
    "stack global": (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.", "found os.system"),
    "dotted name": (b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.", "found numpy.ndarray.dumps"),
    "instance": (b"(S'true'\nios\nsystem\n.", r"found an instance of a class \(INST\)"),
    "new object": (b"\x80\x02cnumpy\nndarray\n)\x81.", r"NEWOBJ"),
    "extension": (b"\x80\x02\x82\x01.", "registered class"),
    "persistent": (b"Pfile\n.", "reference to another file"),
    "object array": (pickle.dumps(np.array([{}, None], object)), "NumPy type 'O8'"),
    "object scalar": (reduced(np._core.multiarray.scalar, (np.dtype(object), b"x")), "NumPy type 'O8'"),
    "structured": (pickle.dumps(np.zeros(2, [("a", "f4")])), "NumPy type 'V4'"),
    "fields in the state": (array_pickle(parts=NO_PARTS.replace(b"NN", b"N(U\x01at")), "with fields"),
    "date": (pickle.dumps(np.zeros(2, "M8[s]")), "NumPy type 'M8'"),
    "wrong size": (array_pickle(shape=b"K\x03\x85"), r"expected 12 bytes for an array \(3,\) of float32, found 8"),
    "negative size": (array_pickle(shape=b"J\xff\xff\xff\xff\x85"), r"array \(-1,\)"),
    "huge size": (array_pickle(shape=b"\x8a\x08" + struct.pack("<q", 2**60) + b"\x85"), "4611686018427387904 bytes"),
    "many axes": (array_pickle(shape=b"(" + b"K\x01" * 70 + b"K\x02t"), "whole pickle"),
    "odd byte order": (array_pickle(order=b"x"), "byte order"),
    "state of a list": (b"\x80\x02]N\x85b.", "state of an array"),
    "array without a state": (MADE % b"ndarray" + b".", "unfinished"),
    "another class": (MADE % b"dtype" + b".", "another class"),
    "a name alone": (b"\x80\x02cnumpy\nndarray\n.", "found numpy.ndarray"),
    "a name in a list": (b"\x80\x02]cnumpy\nndarray\na.", "found numpy.ndarray"),
    "a call of a list": (b"\x80\x02])R.", "to be called"),
    "huge bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"a.", "1152921504606846976 more bytes, found 2"),
    "huge bytearray": (b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b"a.", "more bytes"),
    "huge memo": (b"\x80\x02Nr\xff\xff\xff\x7f0h\x00.", "whole pickle"),
    "long number": (b"\x80\x02\x8b\xff\xff\x00\x00" + b"1" * 65535 + b".", "at most 1024 bytes"),
    "endless digits": (b"I" + b"1" * 5000 + b"\n.", "whole pickle"),
    "tuple as a key": (b"\x80\x02}))s.", "keys of text or numbers"),
    "set": (pickle.dumps({1}, protocol=4), "found a set"),
    "empty": (b"", "cut off"),
    "text": (b"hello", "whole pickle"),
    "stack empty": (b"\x80\x02.", "whole pickle"),
    "mark missing": (b"\x80\x02e.", "whole pickle"),
    "not a pickle": (b"PK\x03\x04", "expected"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_pickles_are_refused(kind):
    content, message = HOSTILE[kind]
    with pytest.raises(StoreError, match=message):
        unpickle(content)


def test_deep_nesting_does_no_harm():
    found = unpickle(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")
    assert len(found) == 1
    with pytest.raises(StoreError, match="keys of text or numbers"):
        unpickle(b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"Ns.")
    with pytest.raises(StoreError, match="tuples at most 8 deep"):
        unpickle(b"\x80\x02cnumpy\nndarray\n" + b"\x85" * 100 + b".")


def test_references_to_themselves_do_no_harm():
    found = unpickle(b"\x80\x02]q\x00h\x00a.")
    assert found[0] is found
    shared = unpickle(b"\x80\x02)" + b"2\x86" * 60 + b".")
    assert len(shared) == 2, "2 ** 60 leaves in 60 tuples"


@pytest.mark.parametrize("protocol", [2, 5])
def test_a_pickle_cut_anywhere_is_refused(protocol):
    whole = pickle.dumps(CONTENT, protocol=protocol)
    for length in range(len(whole)):
        with pytest.raises(StoreError):
            unpickle(whole[:length])


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_damage_ends_in_an_error_or_data(protocol):
    outcomes = [0, 0]
    for damaged in mutations(pickle.dumps(CONTENT, protocol=protocol), protocol, 800):
        try:
            unpickle(damaged)
            outcomes[0] += 1
        except StoreError:
            outcomes[1] += 1
    assert min(outcomes) > 50


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(StoreError, match="cannot be read"):
        unpickle(tmp_path / "nowhere.pkl")
    (tmp_path / "empty.pkl").write_bytes(b"")
    with pytest.raises(StoreError, match="empty.pkl: expected a pickle, found an empty file"):
        unpickle(tmp_path / "empty.pkl")
    (tmp_path / "bad.pkl").write_bytes(reduced(io.open, ("x", "w")))
    with pytest.raises(StoreError, match="bad.pkl: .*found io.open"):
        unpickle(tmp_path / "bad.pkl")
