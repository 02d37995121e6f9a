"""CIFAR-10: tiny files in the binary layout in all three packings, and the real ones."""

import io
import lzma
import tarfile
from pathlib import Path

import pooch
import pytest
import torch

from wiry.core.errors import UserError
from wiry.data import cifar10
from wiry.data.base import build_dataset, mean_std

NUM = 4  # records a file, 10,000 in the real ones


def batches() -> dict[str, bytes]:
    """Six files of four records; record n has label n % 10, red n, green 100 and blue 200."""
    files = {}
    for number, file in enumerate((*cifar10.TRAIN_FILES, *cifar10.TEST_FILES)):
        records = []
        for n in range(number * NUM, number * NUM + NUM):
            planes = [bytes([value]) * 1024 for value in (n, 100, 200)]
            records.append(bytes([n % 10]) + b"".join(planes))
        files[file] = b"".join(records)
    return files


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """WIRY_DATA with an empty cifar10/, an empty cache, and files of four records."""
    monkeypatch.setattr(cifar10, "NUM_RECORDS", NUM)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setenv("WIRY_DATA", str(tmp_path / "files"))
    folder = tmp_path / "files" / "cifar10"
    (folder / "cifar-10-batches-bin").mkdir(parents=True)
    return folder


def write(root: Path, packing: str, monkeypatch) -> None:
    if packing == "tar.gz":
        archive = root / "cifar-10-binary.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            for file, content in batches().items():
                member = tarfile.TarInfo(f"cifar-10-batches-bin/{file}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        monkeypatch.setattr(cifar10, "ARCHIVE_MD5", cifar10._md5(archive))
        return
    for file, content in batches().items():
        path = root / "cifar-10-batches-bin" / file
        if packing == "xz":
            path.with_name(f"{file}.xz").write_bytes(lzma.compress(content))
        else:
            path.write_bytes(content)


@pytest.mark.parametrize("packing", ["plain", "xz", "tar.gz"])
def test_every_packing_gives_the_same_images(packing, root, monkeypatch):
    write(root, packing, monkeypatch)
    for _ in range(2):  # the second time from the cache, where something is unpacked
        dataset = build_dataset({"name": "cifar10", "num_validation": 6})
        assert dataset.train_y.tolist() == [n % 10 for n in range(14)]
        assert dataset.validation_y.tolist() == [n % 10 for n in range(14, 20)]
        assert dataset.test_y.tolist() == [0, 1, 2, 3]
        assert dataset.input_shape == (3, 32, 32)
        assert dataset.augment == "crop-flip"
        expected = torch.tensor([13 / 255, 100 / 255, 200 / 255]).view(3, 1, 1).expand(3, 32, 32)
        torch.testing.assert_close(dataset.train_x[13], expected)


def test_pixels_are_read_row_by_row(root, monkeypatch):
    write(root, "plain", monkeypatch)
    record = bytes([3]) + bytes(range(256)) * 12
    (root / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(record * NUM)
    image = build_dataset({"name": "cifar10", "num_validation": 6}).test_x[0] * 255
    assert image[0, 0, :3].round().tolist() == [0, 1, 2]
    assert image[0, 1, 0].round().item() == 32
    assert image[1, 0, 0].round().item() == 0  # the 1,024th byte starts green


def test_an_unpacked_file_is_kept_and_used(root, monkeypatch):
    write(root, "xz", monkeypatch)
    build_dataset({"name": "cifar10", "num_validation": 6})
    monkeypatch.setattr(cifar10, "_unpack", lambda *_: pytest.fail("unpacked twice"))
    assert len(build_dataset({"name": "cifar10", "num_validation": 6}).train_y) == 14


def test_a_replaced_packed_file_is_unpacked_again(root, monkeypatch):
    write(root, "xz", monkeypatch)
    build_dataset({"name": "cifar10", "num_validation": 6})
    content = bytes(NUM * 3073)  # all labels 0, all pixels black
    (root / "cifar-10-batches-bin" / "test_batch.bin.xz").write_bytes(lzma.compress(content))
    assert build_dataset({"name": "cifar10", "num_validation": 6}).test_y.tolist() == [0] * 4


def test_a_cache_that_cannot_be_written_is_said_and_does_not_stop_the_run(root, monkeypatch):
    write(root, "xz", monkeypatch)

    def fail(*_arguments):
        raise OSError("read-only file system")

    monkeypatch.setattr(cifar10, "write_atomic", fail)
    with pytest.warns(UserWarning, match="read-only file system"):
        dataset = build_dataset({"name": "cifar10", "num_validation": 6})
    assert len(dataset.train_y) == 14


def test_augmentation_can_be_switched_off_and_training_images_limited(root, monkeypatch):
    write(root, "plain", monkeypatch)
    spec = {"name": "cifar10", "num_validation": 6, "num_train": 5, "augment": "none"}
    dataset = build_dataset(spec)
    assert dataset.augment == "none"
    assert dataset.train_y.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("file", "content", "text"),
    [
        ("data_batch_2.bin", b"short", r"data_batch_2.bin is corrupted: it holds 5 bytes"),
        ("data_batch_2.bin", bytes([10]) * NUM * 3073, r"data_batch_2.bin .*label 10"),
        (
            "data_batch_2.bin.xz",
            b"no xz",
            r"data_batch_2.bin.xz is corrupted: .*cannot be unpacked",
        ),
        ("../cifar-10-binary.tar.gz", b"no tar", r"cifar-10-binary.tar.gz is corrupted: its MD5"),
    ],
)
def test_a_corrupted_file_is_refused_by_name(file, content, text, root, monkeypatch):
    write(root, "plain", monkeypatch)
    (root / "cifar-10-batches-bin" / "data_batch_2.bin").unlink()
    (root / "cifar-10-batches-bin" / file).write_bytes(content)
    with pytest.raises(UserError, match=text):
        build_dataset({"name": "cifar10", "num_validation": 6})


def test_a_missing_file_is_named_with_all_that_would_do(root):
    with pytest.raises(UserError, match=r"binary.tar.gz \(or .*data_batch_1.bin or .*bin.xz\)"):
        build_dataset("cifar10")


def test_too_many_validation_images_are_refused(root, monkeypatch):
    write(root, "plain", monkeypatch)
    with pytest.raises(UserError, match=r"dataset 'cifar10': "):
        build_dataset("cifar10")  # 5,000 of 20


@pytest.mark.slow
def test_the_real_files_hold_what_is_published(real_data, monkeypatch):
    monkeypatch.setenv("WIRY_DATA", str(real_data))
    dataset = build_dataset({"name": "cifar10", "num_validation": 10})
    assert dataset.train_y[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert dataset.test_y[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert dataset.test_y.bincount().tolist() == [1000] * 10
    mean, std = mean_std(dataset)
    assert mean.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=2e-4)
    assert std.tolist() == pytest.approx([0.2470, 0.2435, 0.2616], abs=2e-4)
