"""Whatever is wrong with a `.wiry` file is refused by the name of the file, and costs no memory."""

import contextlib
import hashlib
import os
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy
import zstandard
from tests.export.sparse_example import opened, refused, write, write_compressed

from wiry.core.errors import UserError
from wiry.export.load import load
from wiry.export.sparse_container import Array, dump_container, parse_container
from wiry.export.sparse_read import digest, parse_sparse, read_sparse, unpacked, widened
from wiry.export.sparse_write import dump_sparse

MIB = 2**20


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write(tmp_path_factory.mktemp("sparse") / "net.wiry").read_bytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.wiry"


def test_the_bytes_of_a_container_are_those_of_safetensors(path):
    arrays = {
        "half": Array("F16", np.array([1.5], "<f2")),
        "wide": Array("F64", np.array([[0.1, -0.0]])),
        "flag": Array("BOOL", np.array([True, False])),
        "none": Array("F32", np.empty((0, 3), "<f4")),
        "one": Array("I64", np.array(7)),
    }
    data = zstandard.decompress(dump_container(arrays, {"key": "text"}))
    found = safetensors.numpy.load(data)
    assert {n: (v.dtype, v.tolist()) for n, v in found.items()} == {
        n: (a.values.dtype, a.values.tolist()) for n, a in arrays.items()
    }
    metadata, again = parse_container(path, data)
    assert metadata == {"key": "text"}
    assert {n: a.values.tolist() for n, a in again.items()} == {
        n: a.values.tolist() for n, a in arrays.items()
    }
    _, foreign = parse_container(path, safetensors.numpy.save({"x": np.eye(2)}))
    assert foreign["x"].values.tolist() == [[1, 0], [0, 1]]


def test_bits_values_and_widening_with_the_answer_written_out():
    mask = unpacked(np.array([0b10100000, 0b01000000], "u1"), (2, 5))
    assert mask.tolist() == [[True, False, True, False, False], [False, False, False, False, True]]
    assert digest(np.array([1], "<i2")) == hashlib.sha256(b"\x01\x00").hexdigest()
    assert digest(np.empty((0, 2))) == hashlib.sha256(b"").hexdigest()
    brain = Array("BF16", np.array([0x3FC0, 0x8000], "<u2"))
    assert widened(brain, "F32").values.view("<u4").tolist() == [0x3FC00000, 0x80000000]
    assert widened(brain, "F64").values.tolist() == [1.5, 0.0]
    assert widened(Array("F16", np.array([65504], "<f2")), "F32").values.tolist() == [65504]


def test_what_an_example_stores(plain):
    header, manifest, tail = opened(plain)
    assert manifest["tensors"]["head.weight"] | {"sha256": "", "bits_sha256": ""} == {
        "layout": "bitmask",
        "dtype": "F32",
        "stored": "F32",
        "shape": [2, 3],
        "mask": True,
        "sha256": "",
        "bits_sha256": "",
    }
    begin, end = header["bits:head.weight"]["data_offsets"]
    assert tail[begin:end] == bytes([0b10100100])
    assert header["values:head.weight"]["shape"] == [3]
    assert manifest["tensors"]["head.bias"]["layout"] == "dense"


def test_every_flipped_bit_is_refused_by_name(plain, path):
    expected = read_sparse_bytes(path, plain)
    for place in range(0, len(plain), 5):
        flipped = plain[:place] + bytes([plain[place] ^ (1 << place % 8)]) + plain[place + 1 :]
        try:
            found = read_sparse_bytes(path, flipped)
        except UserError as error:
            assert "net.wiry" in str(error)
        else:  # a space of the header became another white space
            assert found == expected, place


def read_sparse_bytes(path, data):
    content = parse_sparse(path, data)
    arrays = {name: (a.dtype, a.values.tobytes()) for name, a in content.arrays.items()}
    return arrays, {n: m.tolist() for n, m in content.masks.items()}, content.facts


@pytest.mark.parametrize("make", [write, write_compressed])
def test_every_cut_and_every_addition_is_refused_by_name(make, path):
    whole = make(path).read_bytes()
    read_sparse(path)
    for length in [*range(0, 40), *range(40, len(whole), 7), len(whole) - 1]:
        with pytest.raises(UserError, match=r"net\.wiry"):
            parse_sparse(path, whole[:length])
    for more in (b"\0", whole):
        with pytest.raises(UserError, match=r"net\.wiry"):
            parse_sparse(path, whole + more)


@contextlib.contextmanager
def peak_memory():
    """Give a list that has the most bytes in use at once in the block after it."""
    peak = []
    tracemalloc.start()
    try:
        yield peak
    finally:
        peak.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()


def frame(content, *, size=None, **options):
    """Compress; the frame says `size`."""
    compressor = zstandard.ZstdCompressor(level=19, **options)
    if size is None:
        return compressor.compress(content)
    packed = bytearray(compressor.compress(content))
    assert packed[4] >> 6 == 2 and packed[4] & 0b100000  # four bytes of size, one segment
    packed[5:9] = size.to_bytes(4, "little")
    return bytes(packed)


def test_frames_that_lie_or_burst_are_refused_without_their_memory(plain, path):
    bomb = zstandard.ZstdCompressor(level=3).compress(bytes(64 * MIB))
    assert len(bomb) < MIB
    faults = {
        "its header": bomb,  # 64 MiB declared and there
        "holds 67,108,864 bytes, at most": bomb,
        "not possible": frame(bytes(100), write_content_size=False),
        "declares is not possible": frame(bytes(2 * MIB), size=2**32 - 1),
        "zstd says": frame(bytes(2 * MIB), size=MIB),
    }
    for text, data in faults.items():
        limit = {"max_bytes": 32 * MIB} if "at most" in text else {}
        path.write_bytes(data)
        with peak_memory() as peak, pytest.raises(UserError, match=rf"net\.wiry.*{text}"):
            read_sparse(path, **limit)
        if text != "its header":
            assert peak[0] < 4 * MIB + 3 * len(data), text
    half = zstandard.ZstdCompressor().compress(plain)[:-4]
    refused(path, half, "zstd says")
    dictionary = zstandard.ZstdCompressionDict(plain)
    refused(path, zstandard.ZstdCompressor(dict_data=dictionary).compress(plain), "zstd says")


def test_memory_stays_within_what_the_file_declares(path):
    mask = np.zeros((64, 2**18), bool)  # 16 Mi entries, 2 MiB of bits that take few bytes
    write_compressed(path)
    facts = read_sparse(path).facts
    arrays = {"w": Array("F32", np.zeros(mask.shape, "<f4"))}
    data = dump_sparse(arrays, {"w": mask}, facts, {})
    assert len(data) < 4096
    path.write_bytes(data)
    with peak_memory() as peak:
        read_sparse(path)
    assert peak[0] < (64 + 16 + 2 * 2 + 8) * MIB  # tensor, mask, container
    text = "tensors of 67,108,864 bytes, at most 67,108,863"
    with peak_memory() as peak, pytest.raises(UserError, match=text):
        read_sparse(path, max_bytes=64 * MIB - 1)
    assert peak[0] < 8 * MIB


def test_what_is_no_file_is_refused(tmp_path):
    for place, text in ((tmp_path / "no.wiry", "no such file"), (tmp_path, "folder")):
        with pytest.raises(UserError, match=text):
            read_sparse(place)
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "no.wiry")
    os.mkfifo(tmp_path / "pipe.wiry")
    with pytest.raises(UserError, match=r"pipe\.wiry cannot be read"):
        load(tmp_path / "pipe.wiry")
    write(tmp_path / "net.wiry")
    with pytest.raises(UserError, match="at most 100 are read"):
        read_sparse(tmp_path / "net.wiry", max_bytes=100)
