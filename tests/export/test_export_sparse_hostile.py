"""Hostile `.wiry` files, each malformed in one place with all checksums right, are refused."""

import json

import numpy as np
import pytest
import safetensors.numpy
from tests.export.sparse_example import contained, opened, refused, sealed, write

from wiry.core.errors import UserError
from wiry.export.load import load
from wiry.export.sparse_read import read_sparse


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write(tmp_path_factory.mktemp("sparse") / "net.wiry").read_bytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.wiry"


HEADERS = [
    (b"", "JSON"),
    (b"[]", "not a JSON object"),
    (b"\xff\xfe", "JSON"),
    (b"[" * 100_000, "JSON"),
    (b'{"a":' * 100_000, "JSON"),
    (b'{"x":1,"x":1}', "twice"),
    (b'{"x":NaN}', "NaN"),
    (b'{"x":' + b"1" * 10_000 + b"}", "JSON"),
    (b'{"x":null}', "entry of 'x' is malformed"),
    (b'{"__metadata__":{"a":1}}', "metadata is malformed"),
    (b'{"__metadata__":[]}', "metadata is malformed"),
    (b'{"\\ud800":1}', "entry of '.ud800' is malformed"),
]
ENTRY = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
ENTRIES = [
    ({"dtype": "C64"}, "type"),
    ({"dtype": ["U8"]}, "type"),
    ({"more": 1}, "malformed"),
    ({"shape": [-4]}, "shape"),
    ({"shape": [4.0]}, "shape"),
    ({"shape": [True, 4]}, "shape"),
    ({"shape": 4}, "shape"),
    ({"shape": [2**62]}, "shape"),
    ({"shape": [0, 2**40, 2**40]}, "shape"),
    ({"shape": [1] * 33}, "shape"),
    ({"shape": [2**40]}, "offsets"),
    ({"data_offsets": [0, 4, 4]}, "offsets"),
    ({"data_offsets": [0, 4.0]}, "offsets"),
    ({"data_offsets": None}, "offsets"),
    ({"data_offsets": [-2, 2]}, "offsets"),
    ({"data_offsets": [4, 0]}, "offsets"),
    ({"data_offsets": [1, 5]}, "where the tensor before it ends"),
    ({"shape": [5], "data_offsets": [0, 5]}, "beyond the end"),
    ({"shape": [3], "data_offsets": [0, 3]}, "belong to no tensor"),
    ({"dtype": "BOOL"}, "other bytes than 0 and 1"),
]


@pytest.mark.parametrize(("text", "fault"), HEADERS)
def test_malformed_headers_are_refused(path, text, fault):
    refused(path, contained(text, b""), fault)


@pytest.mark.parametrize(("changes", "fault"), ENTRIES)
def test_malformed_entries_are_refused(path, changes, fault):
    header = json.dumps({"x": ENTRY | changes}).encode()
    refused(path, contained(header, b"\2\1\0\0"), fault)


def test_arrays_that_overlap_are_refused(path):
    text = json.dumps({"x": ENTRY, "y": ENTRY | {"data_offsets": [2, 6]}}).encode()
    refused(path, contained(text, b"\0" * 6), "'y' is not where the tensor before it ends")


@pytest.mark.parametrize("length", [9, 2**22 + 1, 2**63, 2**64 - 1])
def test_header_lengths_that_cannot_be_are_refused(path, length):
    refused(path, length.to_bytes(8, "little") + b"{}", "length of its header")


ROWS = [
    ({"layout": "csr"}, "malformed"),
    ({"layout": ["dense"]}, "malformed"),
    ({"layout": "dense"}, "malformed"),
    ({"dtype": "C64"}, "malformed"),
    ({"dtype": {}}, "malformed"),
    ({"stored": None}, "malformed"),
    ({"dtype": "F16"}, "malformed"),
    ({"dtype": "I32", "stored": "I32"}, "is missing or is not I32"),
    ({"shape": [2, -3]}, "malformed"),
    ({"shape": [2**40, 2**19]}, "'bits:head.weight' is missing or is not U8"),
    ({"shape": [3, 3]}, "'bits:head.weight' is missing or is not U8"),
    ({"shape": [5]}, "bits of 'head.weight' do not fit"),
    ({"mask": 1}, "malformed"),
    ({"mask": None}, "malformed"),
    ({"sha256": 1}, "malformed"),
    ({"sha256": "0" * 64}, "checksum of 'head.weight' differs"),
    ({"bits_sha256": "0" * 64}, "checksum of the bits of 'head.weight' differs"),
    ({"bits_sha256": None}, "malformed"),
    ({"more": 1}, "malformed"),
]


@pytest.mark.parametrize(("changes", "fault"), ROWS)
def test_rows_that_do_not_fit_the_arrays_are_refused(plain, path, changes, fault):
    header, manifest, tail = opened(plain)
    manifest["tensors"]["head.weight"] |= changes
    refused(path, sealed(header, manifest, tail), fault)


FACTS = [
    ({"tensors": []}, "tensors"),
    ({"tensors": {"x": 1}}, "row of 'x'"),
    ({"tensors": {}}, "does not know"),
    ({"model": "mlp"}, "model in its manifest"),
    ({"input_shape": [1, 0, 2]}, "input_shape"),
    ({"input_shape": None}, "input_shape"),
    ({"num_classes": None}, "num_classes"),
    ({"num_classes": -1}, "num_classes"),
    ({"class_names": "ab"}, "class_names"),
    ({"class_names": [1, 2]}, "class_names"),
    ({"class_names": ["one"]}, "class_names"),
    ({"normalisation": {"mean": [0]}}, "normalisation"),
    ({"normalisation": {"mean": [0], "std": ["1"]}}, "normalisation"),
    ({"recipe": []}, "recipe"),
    ({"evaluation": 1}, "evaluation"),
    ({"rounding": "float16"}, "rounding"),
    ({"graph": []}, "graph"),
    ({"graph_fault": 1}, "graph_fault"),
    ({"wiry": None}, "wiry"),
]
SPECS = [
    ({"model": {"name": "mpl"}}, "closest: 'mlp'"),
    ({"model": {"name": "mlp", "widths": [5]}}, "'hidden.0.weight' is float32"),
    ({"model": {"name": "mlp", "widths": [10**12]}}, "'hidden.0.weight' is float32"),
    ({"model": {"name": "mlp", "widths": [10**18, 10**18]}}, "cannot be built"),
    ({"model": {"name": "mlp", "widths": [3, 3]}}, "lacks 'hidden.2"),
    ({"model": {"name": "resnet18", "width": 10**5}}, "too small"),
    ({"input_shape": [2]}, ""),
    ({"input_shape": [1, 10**9, 10**9]}, ""),
    ({"num_classes": 10**30}, "cannot be built"),
    ({"model": {"name": "mlp", "widths": [10**30]}}, "cannot be built"),
    ({"model": {"name": "my-net"}, "recipe": {"plugins": ["mine"]}}, r"plugins \['mine'\]"),
]


@pytest.mark.parametrize(("changes", "fault"), FACTS)
def test_malformed_facts_are_refused(plain, path, changes, fault):
    header, manifest, tail = opened(plain)
    refused(path, sealed(header, manifest | changes, tail), fault)


@pytest.mark.parametrize(("changes", "fault"), SPECS)
def test_a_model_spec_that_does_not_fit_the_tensors_is_refused(plain, path, changes, fault):
    header, manifest, tail = opened(plain)
    path.write_bytes(sealed(header, manifest | changes, tail))
    read_sparse(path)
    with pytest.raises(UserError, match=rf"(?s)net\.wiry.*{fault}"):
        load(path)


def test_other_metadata_is_refused(plain, path):
    refused(path, sealed(*opened(plain), format="pt"), "does not say 'wiry-sparse'")
    refused(path, sealed(*opened(plain), format_version="2"), "format version '2'")
    refused(path, sealed(*opened(plain), manifest_sha256="0" * 64), "checksum of its manifest")
    header, _, tail = opened(plain)
    refused(path, sealed(header, "[" * 100_000, tail), "manifest is not valid JSON")
    refused(path, safetensors.numpy.save({"x": np.eye(2)}), "does not say")
    extra = dict(opened(plain)[0]) | {"x": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}
    refused(path, sealed(extra, *opened(plain)[1:]), "does not know 'x'")


def test_set_spare_bits_are_refused(plain, path):
    header, manifest, tail = opened(plain)
    begin, end = header["bits:head.weight"]["data_offsets"]
    tail = tail[:begin] + bytes([tail[begin] | 1]) + tail[end:]
    refused(path, sealed(header, manifest, tail), "bits of 'head.weight' do not fit")
