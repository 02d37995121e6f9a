"""A small sound `.wiry` file, and the same with anything in it changed and sealed again."""

import hashlib
import json

import pytest
import torch
import zstandard
from tests.export.example import KEPT, trained
from torch import nn

from wiry.core.errors import UserError
from wiry.core.mask import Mask
from wiry.export.load import load
from wiry.export.sparse_file import save
from wiry.export.sparse_read import read_sparse


class Holder(nn.Module):
    """Any tensors as parameters (floats) and buffers (the rest)."""

    def __init__(self, tensors):
        super().__init__()
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and name[0] == "p":
                self.register_parameter(name, nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)


def bits(tensor):
    """Return a tensor's bytes."""
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).tolist() if len(flat) else []


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape, name
        assert bits(found[name]) == bits(tensor), name


def write(path):
    """Write the file as a plain container."""
    save(trained(), path, input_shape=(1, 2, 2), mask=Mask({"head.weight": KEPT}))
    path.write_bytes(zstandard.ZstdDecompressor().decompress(path.read_bytes()))
    return path


def write_compressed(path):
    """Write a file in a zstd frame."""
    model = torch.nn.Linear(100, 50)
    save(model, path, input_shape=(100,), mask=Mask({"weight": torch.eye(50, 100)}))
    return path


def opened(data):
    """Return header, manifest and tensor bytes of a plain container."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    return header, json.loads(header["__metadata__"]["manifest"]), data[start:]


def sealed(header, manifest, tail, **metadata):
    """Return a plain container with the checksum of its manifest right."""
    text = manifest if isinstance(manifest, str) else json.dumps(manifest)
    digest = hashlib.sha256(text.encode()).hexdigest()
    parts = {"manifest": text, "manifest_sha256": digest, **metadata}
    header["__metadata__"] = header["__metadata__"] | parts
    return contained(json.dumps(header).encode(), tail)


def contained(text, tail):
    """Return a container with any bytes as header."""
    return len(text).to_bytes(8, "little") + text + tail


def refused(path, data, text):
    """Write the bytes; every reader refuses them by the name of the file, and says `text`."""
    path.write_bytes(data)
    for read in (read_sparse, load):
        with pytest.raises(UserError, match=rf"(?s)net\.wiry.*{text}"):
            read(path)
