"""Any bytes at all give a sound reading or a clear error: never a crash, never their weight."""

import json

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.export.sparse_example import contained, opened, sealed, write, write_compressed

from wiry.core.errors import UserError
from wiry.export.load import load
from wiry.export.sparse_container import NUMPY, parse_container
from wiry.export.sparse_read import parse_sparse
from wiry.runtime.runtime import graph_of

COUNTS = st.one_of(
    st.integers(-2, 12), st.sampled_from([2**31, 2**60, 2**63, 2**64, -(2**63), 10**40])
)
LEAVES = st.one_of(st.none(), st.booleans(), COUNTS, st.floats(), st.text(max_size=5))
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*NUMPY, "F8", ""]) | LEAVES,
        "shape": st.lists(COUNTS, max_size=4) | JSON,
        "data_offsets": st.lists(COUNTS, min_size=2, max_size=2) | JSON,
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def plain(folder):
    return write(folder / "plain.wiry").read_bytes()


@pytest.fixture(scope="module")
def compressed(folder):
    return write_compressed(folder / "compressed.wiry").read_bytes()


def read(folder, data, *, whole=False):
    """Read bytes; anything but a reading or a clear error fails the test."""
    path = folder / "net.wiry"
    try:
        content = parse_sparse(path, data, max_bytes=2**24)
    except UserError as error:
        assert "net.wiry" in str(error) and len(str(error)) < 2000
        str(error).encode()  # can be printed
        return None
    if whole:
        path.write_bytes(data)
        try:
            load(path)
        except UserError as error:
            assert "net.wiry" in str(error)
    return content


def edited(data, edits):
    """Return data after edits (place as a share, how many bytes go, what comes)."""
    for share, num_gone, new in edits:
        place = int(share * len(data))
        data = data[:place] + new + data[place + num_gone :]
    return data


EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 9), st.binary(max_size=9)), min_size=1, max_size=4
)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda b: b"\x28\xb5\x2f\xfd" + b))
def test_any_bytes(folder, data):
    assert read(folder, data) is None


@settings(max_examples=500, deadline=None)
@given(edits=EDITS, which=st.booleans())
def test_sound_files_with_edits(folder, plain, compressed, edits, which):
    read(folder, edited(plain if which else compressed, edits))


@settings(max_examples=400, deadline=None)
@given(EDITS)
def test_edits_below_the_compression(folder, plain, edits):
    read(folder, zstandard.compress(edited(plain, edits)))


@settings(max_examples=400, deadline=None)
@given(header=st.dictionaries(st.text(max_size=4), ENTRY | JSON, max_size=4), tail=st.binary())
def test_any_header(folder, header, tail):
    data = contained(json.dumps(header).encode(), tail)
    try:
        _, arrays = parse_container(folder / "net.wiry", data)
    except UserError as error:
        assert "net.wiry" in str(error)
    else:
        assert sum(a.values.nbytes for a in arrays.values()) == len(tail)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_manifest_with_its_checksum_right(folder, plain, data):
    header, manifest, tail = opened(plain)
    for _ in range(data.draw(st.integers(1, 3))):
        _change(manifest, data)
    text = json.dumps(manifest)
    read(folder, sealed(header, text, tail), whole=True)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_graph_with_its_checksum_right(folder, plain, data):
    header, manifest, tail = opened(plain)
    for _ in range(data.draw(st.integers(1, 3))):
        _change(manifest["graph"], data)
    content = read(folder, sealed(header, json.dumps(manifest), tail))
    if content is None:  # no JSON any more, such as infinity
        return
    try:
        graph = graph_of(content, "net.wiry")
    except UserError as error:
        assert "net.wiry" in str(error) and len(str(error)) < 500
        str(error).encode()
    else:
        assert graph.num_classes == 2


def _change(place, data):
    """Replace or remove something somewhere in a tree."""
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        inner = place[key]
        if isinstance(inner, dict | list) and inner and data.draw(st.booleans()):
            place = inner
            continue
        if isinstance(place, dict) and data.draw(st.booleans()):
            del place[key]
        else:
            place[key] = data.draw(JSON | st.just(inner))
        return
