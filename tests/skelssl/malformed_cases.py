"""The cases of `malformed.py`: what is wrong, and part of what a user sees."""

from malformed import (
    LABELS,
    NTU,
    NW_UCLA,
    PKU,
    SUBJECTS,
    UWA3D,
    Case,
    Damage,
    array,
    as_folder,
    changed,
    cut,
    empty_folder,
    encrypted,
    first_coordinate,
    first_number,
    flipped,
    full_disk,
    half,
    header_text,
    in_header,
    in_tar,
    line,
    looped,
    missing,
    nothing,
    once,
    other_files,
    skeleton,
    skeleton_text,
    store_with,
    twice,
    utf16,
    vanishing,
    with_file,
    without_units,
    written,
    zip_of_names,
    zipped,
)

BOM = b"\xef\xbb\xbf"
OBJECTS = [{"a": 1}]
NO_PLACE = "joints that were NaN, infinite or huge are interpolated"
LEFT_OUT = "left out, damaged: S001C002P001R001A002: line"


def of_file(kind: str, name: str, rows: list[tuple[str, Damage, str]]) -> list[Case]:
    return [Case(kind, damage, changed(kind, name, change), seen) for damage, change, seen in rows]


NTU_TEXT = of_file(
    "ntu60",
    NTU,
    [
        ("truncated", half, f"{LEFT_OUT} "),
        ("empty", nothing, f"{LEFT_OUT} 1: expected the number of frames, found the end of the text"),
        ("more frames announced than there are", line(1, b"4"), f"{LEFT_OUT} 86: expected the number of bodies"),
        ("fewer frames announced than there are", line(1, b"2"), "expected the end of the text after the last frame"),
        (
            "999999999 bodies",
            line(2, b"999999999"),
            f"{LEFT_OUT} 30: expected a body's id and 9 values, found the end of the line",
        ),
        ("a count beyond 64 bits", line(2, b"9" * 30), f"{LEFT_OUT} 2: expected the number of bodies, found '9999"),
        ("-1 bodies", line(2, b"-1"), f"{LEFT_OUT} "),
        ("24 joints", line(4, b"24"), "line 4: expected 25, the number of joints, found '24'"),
        ("nan", first_number(b"nan"), f"{NO_PLACE}: S001C002P001R001A002"),
        ("1e300", first_number(b"1e300"), f"{NO_PLACE}: S001C002P001R001A002"),
        ("1e39, beyond float32", first_number(b"1e39"), f"{NO_PLACE}: S001C002P001R001A002"),
        ("1_000", first_number(b"1_000"), "line 5: expected a joint's 3 coordinates, found '1_000"),
        ("digits of another script", first_number("٣".encode()), "line 5: expected a joint's 3 coordinates, found '٣"),
        ("0x10", first_number(b"0x10"), "line 5: expected a joint's 3 coordinates, found '0x10"),
        ("UTF-16", utf16, f"{LEFT_OUT} 1: expected the number of frames"),
        ("UTF-8 with a mark in front", lambda text: BOM + text, f"{LEFT_OUT} 1: expected the number of frames"),
        ("NUL bytes", lambda text: text.replace(b" ", b"\0"), f"{LEFT_OUT} 3: expected a body's id and 9 values"),
        ("no body in any frame", lambda text: b"2\n0\n0\n", "left out, no body: S001C002P001R001A002"),
    ],
)
NW_UCLA_TEXT = of_file(
    "nw-ucla",
    NW_UCLA,
    [
        ("truncated", half, f"{NW_UCLA}: expected JSON with 'skeletons' and 'label': Expecting"),
        ("empty", nothing, f"{NW_UCLA}: expected JSON with 'skeletons' and 'label': Expecting value"),
        (
            "nested 100000 times",
            lambda text: b"[" * 100000,
            f"{NW_UCLA}: expected JSON with 'skeletons' and 'label': maximum recursion",
        ),
        ("another label", once(b'"label": 1', b'"label": 3'), f"{NW_UCLA}: expected label 1 for action 1, found 3"),
        ("no label", once(b"label", b"Label"), "expected JSON with 'skeletons' and 'label', found skeletons, Label"),
        ("a frame without joints", once(b"[[[", b"[[], [["), f"{NW_UCLA}: expected skeletons of shape (frames, 20, 3)"),
        ("NaN", first_coordinate(b"NaN"), f"{NW_UCLA}: expected finite coordinates, found NaN or infinity"),
        ("a whole number of 400 digits", first_coordinate(b"9" * 400), f"{NW_UCLA}: expected skeletons of shape"),
        ("1e400", first_coordinate(b"1e400"), f"{NW_UCLA}: expected finite coordinates, found NaN or infinity"),
        ("1e39, beyond float32", first_coordinate(b"1e39"), f"{NO_PLACE}: a01_s01_e00_v02"),
        ("a text among the numbers", first_coordinate(b'"x"'), f"{NW_UCLA}: expected skeletons of shape"),
        ("a list", lambda text: b"[]", "expected JSON with 'skeletons' and 'label', found list"),
        ("bytes of no encoding", lambda text: b"\xff\xfe\xff" + text, f"{NW_UCLA}: expected JSON"),
    ],
)
PKU_TEXT = (
    of_file(
        "pku-mmd-1",
        PKU,
        [
            ("truncated", half, "left out, damaged: 0002-L: line"),
            (
                "empty",
                nothing,
                "left out, empty file: FOLDER/source/skeletons/0002-L.txt; left out, no skeleton file: 0002-L",
            ),
            (
                "a line of 149",
                once(
                    b" ",
                    b"",
                ),
                "0002-L: line 1: expected 150 numbers, found 149",
            ),
            ("a line of 151", lambda text: b"1 " + text, "0002-L: line 1: expected 150 numbers, found more"),
            ("an empty line", once(b"\n", b"\n\n"), "0002-L: line 2: expected 150 numbers, found 0"),
            ("nan", first_number(b"nan"), "0002-L: line 4: expected a finite number, found 'nan'"),
            ("1e400", first_number(b"1e400"), "0002-L: line 4: expected a finite number, found '1e400'"),
            ("1e39, beyond float32", first_number(b"1e39"), f"{NO_PLACE}: 0002-L"),
            ("1_000", first_number(b"1_000"), "0002-L: line 4: expected a finite number, found '1_000'"),
            ("1.2.3", first_number(b"1.2.3"), "0002-L: line 4: expected a finite number, found '1.2.3'"),
            (
                "digits of another script",
                first_number("٣".encode()),
                r"line 4: expected a finite number, found '\\xd9\\xa3'",
            ),
            ("UTF-16", utf16, "0002-L: expected plain text, found NUL bytes, as of UTF-16 or binary data"),
            (
                "one line of 2 million numbers",
                lambda text: b"1 " * 2_000_000,
                "line 1: expected 150 numbers, found more",
            ),
        ],
    )
    + of_file(
        "pku-mmd-1",
        LABELS,
        [
            (
                "labels: empty",
                nothing,
                "left out, empty file: FOLDER/source/labels/0002-L.txt; left out, no label file: 0002-L",
            ),
            ("labels: an unknown action", line(1, b"52,3,9,2"), "left out, unknown action: 0002-L, line 1: 52"),
            (
                "labels: -1",
                line(1, b"1,-1,9,2"),
                "0002-L, line 1: expected action,start,end,confidence, found '1,-1,9,2'",
            ),
            (
                "labels: end before start",
                line(1, b"1,9,3,2"),
                "label that ends before it begins: 0002-L, line 1: 9 to 3",
            ),
            ("labels: beyond the video", line(1, b"1,13,14,2"), "0002-L, line 1: frame 13 of 12"),
            (
                "labels: end beyond the video",
                line(1, b"1,3,99,2"),
                "ends after the video, taken to its end: 0002-L_a01_0001",
            ),
            ("labels: number of 30 digits", line(1, b"1,3," + b"9" * 30), "0002-L, line 1: expected action,start,end"),
            (
                "labels: UTF-16",
                lambda text: b"," + utf16(text),
                "damaged labels: 0002-L: expected plain text, found NUL",
            ),
            (
                "labels: digits of another script",
                line(1, "٣,3,9,2".encode()),
                "0002-L: expected plain text, found byte 0xd9",
            ),
        ],
    )
    + of_file(
        "pku-mmd-1",
        SUBJECTS,
        [
            ("lists: empty", nothing, "cross-subject.txt: expected lists of training and validation videos, found no"),
            (
                "lists: no headings",
                once(b"Training videos:\n", b""),
                "line 1: expected 'Training videos:', found '0002-L'",
            ),
            (
                "lists: truncated",
                half,
                "cross-subject.txt: expected lists of training and validation videos, found no test",
            ),
            (
                "lists: one video in both",
                once(b"0002-R", b"0002-L"),
                "expected each video in one list, found 0002-L in both",
            ),
            (
                "lists: of another part",
                lambda text: text.replace(b"0002", b"A01N01"),
                "expected the split file cross-subject",
            ),
            ("lists: NUL bytes", lambda text: text + b"\0", "cross-subject.txt: expected plain text, found NUL bytes"),
        ],
    )
)
UWA3D_TEXT = of_file(
    "uwa3d",
    UWA3D,
    [
        ("truncated", lambda text: text[:-30], "a01_s01_e00_v02: line 12: expected 45 numbers, found 4"),
        ("44 numbers a line", once(b" ", b""), "a01_s01_e00_v02: line 1: expected 45 numbers, found 44"),
        ("-inf", first_number(b"-inf"), "a01_s01_e00_v02: line 4: expected a finite number, found '-inf'"),
        ("UTF-16", utf16, "a01_s01_e00_v02: expected plain text, found NUL bytes"),
    ],
)
PLACES = [
    Case("ntu60", "no such file", missing, "source: expected a folder or an archive, found nothing"),
    Case("ntu60", "an empty folder", empty_folder, "expected files such as S001C001P001R001A001.skeleton, found none"),
    Case(
        "ntu60",
        "a text in the place of an archive",
        written(b"hello"),
        "expected a folder, a zip or a tar archive, found none",
    ),
    Case(
        "ntu60",
        "a 7z archive",
        written(b"7z\xbc\xaf'\x1c" + bytes(99)),
        "found a 7z archive, which has to be unpacked first",
    ),
    Case("ntu60", "a folder in the place of a file", with_file("ntu60", as_folder(NTU)), "1 sequences"),
    Case("ntu60", "links in circles", with_file("ntu60", looped), "2 sequences"),
    Case("ntu60", "a file twice", with_file("ntu60", twice(NTU)), "S001C002P001R001A002 occurs more than once"),
    Case("ntu60", "a file that vanishes", with_file("ntu60", lambda source: None), "cannot be read", vanishing),
    Case("ntu60", "a full disk", with_file("ntu60", lambda source: None), "No space left on device", full_disk),
    Case("ntu60", "other files at the store's place", with_file("ntu60", other_files), "expected nothing or a store"),
    Case(
        "nw-ucla", "a view that is missing", with_file("nw-ucla", lambda source: (source / NW_UCLA).unlink()), "view 2"
    ),
    Case("uwa3d", "a view that is missing", with_file("uwa3d", lambda source: (source / UWA3D).unlink()), "of view 2"),
    Case(
        "pku-mmd-1",
        "a split file that is missing",
        with_file("pku-mmd-1", lambda source: (source / SUBJECTS).unlink()),
        "expected the split file cross-subject.txt beside the skeletons, found none that lists videos of pku-mmd-1",
    ),
    Case(
        "pku-mmd-1",
        "a label file that is missing",
        with_file("pku-mmd-1", lambda source: (source / LABELS).unlink()),
        "left out, no label file: 0002-L",
    ),
    Case(
        "pku-mmd-1",
        "a skeleton file that is missing",
        with_file("pku-mmd-1", lambda source: (source / PKU).unlink()),
        "left out, no skeleton file: 0002-L",
    ),
    Case("pku-mmd-2", "the other part", with_file("pku-mmd-1", lambda source: None), "found none of pku-mmd-2"),
]
ARCHIVES = [
    Case(
        "ntu60",
        "zip: truncated",
        zipped(change=half),
        "source.zip: expected a folder, a zip or a tar archive, found a zip archive that is",
    ),
    Case("ntu60", "zip: changed bytes", zipped(change=flipped), "cannot be read"),
    Case(
        "ntu60",
        "zip: encrypted",
        zipped(change=encrypted),
        "expected files without a password, found S001C001P001R001A001",
    ),
    Case("ntu60", "zip: a bomb", zipped(**{NTU: bytes(30_000_000)}), "bytes that unpack to 30000000"),
    Case("ntu60", "zip: a file of 65 MiB", zipped(**{NTU: bytes(65 * 2**20)}), "expected at most 67108864 bytes"),
    Case("ntu60", "zip: a zip in it", zip_of_names("inner.zip"), "found none of ntu60"),
    Case(
        "ntu60",
        "zip: paths that lead out of it",
        zip_of_names("../../S001C001P001R001A001.skeleton", "/x"),
        "1 sequences",
    ),
    Case("ntu60", "zip: the same name twice", zip_of_names(f"a/{NTU}", f"b/{NTU}"), "occurs more than once"),
    Case("ntu60", "tar.xz: truncated", in_tar(half), "source.tar.xz: expected"),
    Case("ntu60", "tar.xz: changed bytes", in_tar(flipped), "source.tar.xz: expected"),
]
STORES = [
    Case("verify", damage, store_with(change), seen)
    for damage, change, seen in [
        ("no header", lambda path: (path / "header.json").unlink(), "expected a store, found no header.json"),
        ("header: not JSON", header_text(b"{"), "header.json: cannot be read"),
        ("header: UTF-16", header_text("{}".encode("utf-16")), "header.json: cannot be read"),
        ("header: a list", header_text(b"[]"), "expected format version 1, found None"),
        ("header: nested 100000 times", header_text(b"[" * 100000), "header.json: cannot be read"),
        ("header: a newer version", in_header(version=2), "expected format version 1, found 2"),
        (
            "header: an unknown key",
            in_header(colour="red"),
            "header.json: expected the keys of version 1, found 'colour'",
        ),
        ("header: names are a number", in_header(names=5), "header.json: names: expected list, found int"),
        ("header: history is a text", in_header(history="none"), "header.json: history: expected dict, found str"),
        (
            "header: a name is a number",
            in_header(names=["one", 2]),
            "header.json: expected names and hashes as texts, found others",
        ),
        (
            "header: a hash of a file outside",
            in_header(hashes={"../x": ""}),
            "expected files of the store, found '../x'",
        ),
        ("header: without units", without_units, "header.json: expected the key 'units', found none"),
        ("frames: truncated", cut("frames.npy", half), "frames.npy: cannot be read"),
        ("frames: pickled objects", array("frames", OBJECTS), "frames.npy: cannot be read"),
        ("frames: another shape", array("frames", [[1.0]]), "frames.npy: expected (F, M, V, C) float32"),
        ("offsets: falling", array("offsets", [0, 9, 4]), "offsets.npy: expected 3 rising whole numbers"),
        ("offsets: not whole", array("offsets", [0.0, 5.5, 10.0]), "offsets.npy: expected 3 rising whole numbers"),
        ("labels: of no class", array("labels", [0, 2]), "labels.npy: expected labels in [0, 2)"),
        ("labels: pickled objects", array("labels", OBJECTS), "labels.npy: cannot be read"),
        ("labels: one too few", array("labels", [0]), "expected (2,) int64, found (1,) int64"),
        ("split: samples that are not there", array("split.train", [0, 7]), "names samples outside [0, 2)"),
        (
            "split: not whole",
            array("split.train", [0.5]),
            "split 'train': expected samples (int64), found (1,) float64",
        ),
        ("split: changed", array("split.train", [1]), "split.train.npy is not as it was written"),
        ("frames: changed bytes", cut("frames.npy", lambda data: data[:-1] + b"?"), "frames.npy is not as it was"),
    ]
]
SKELETONS = [
    Case("skeleton", damage, build, f"FOLDER/mine.yaml: {seen}")
    for damage, build, seen in [
        ("empty", skeleton_text(b""), "the file: expected names with values, found nothing"),
        ("no YAML", skeleton_text(b"joints: ["), "expected YAML: while parsing"),
        ("UTF-16", skeleton_text("joints: []".encode("utf-16")), "expected UTF-8 text, found a byte that is not at 0"),
        (
            "a Python object",
            skeleton_text(b"!!python/object/apply:os.system [ls]"),
            "expected YAML: could not determine a constructor",
        ),
        ("nested 500 times", skeleton_text(b"[" * 500), "expected YAML, found brackets within brackets without end"),
        (
            "another key",
            skeleton(colour="red"),
            "expected the keys joints, parents, edges, centre, mirror, parts, roles, found 'colour'",
        ),
        (
            "keys of several kinds",
            skeleton_text(b"{1: a, b: c}"),
            "expected the keys joints, parents, edges, centre, mirror, parts, roles, found 1",
        ),
        ("joints: a number", skeleton(joints=5), "joints: expected"),
        ("joints: numbers", skeleton(joints=[1, 2]), "joints: expected names, found 1; quotes make a name of anything"),
        ("joints: one twice", skeleton(joints=["hip", "hip"]), "joints: 'hip' occurs twice"),
        ("parents: a list", skeleton(parents=["hip"]), "parents: expected names with values, found a list of 1"),
        (
            "parents: unknown",
            skeleton(parents={"left_knee": "nose"}),
            "parents: left_knee: 'nose' is not among the joints",
        ),
        ("parents: none", skeleton(parents={}), "expected one joint without a parent, found"),
        (
            "parents: in a circle",
            skeleton(parents={"left_knee": "right_knee", "right_knee": "left_knee"}),
            "the parents of 'left_knee' go round in a circle",
        ),
        ("parts: a list", skeleton(parts=["legs"]), "parts: expected names with values, found a list of 1"),
        (
            "no mirror image",
            skeleton(joints=["hip", "left_knee"], parents={"left_knee": "hip"}, parts={}),
            "'left_knee' has no mirror image",
        ),
    ]
]
CASES = [*NTU_TEXT, *NW_UCLA_TEXT, *PKU_TEXT, *UWA3D_TEXT, *PLACES, *ARCHIVES, *STORES, *SKELETONS]
