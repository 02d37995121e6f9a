"""Finding files: WIRY_DATA, the cache, a download from a server on this machine."""

import functools
import hashlib
import http.server
import logging
import threading
from pathlib import Path

import pooch
import pytest

from wiry.core.errors import UserError
from wiry.data.locate import cache_dir, find, locate

CONTENT = b"some images"
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments):
        pass


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder, and WIRY_DATA not set."""
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.delenv("WIRY_DATA", raising=False)
    return tmp_path / "cache" / "wiry" / "data"


@pytest.fixture
def url(tmp_path, monkeypatch):
    """The address of a server that has one file, `images.gz`."""
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "images.gz").write_bytes(CONTENT)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(pooch.get_logger(), "level", logging.ERROR)
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_the_cache_is_a_folder_of_wiry(cache):
    assert cache_dir() == cache


def test_a_file_below_wiry_data_is_taken_where_it_lies(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("WIRY_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "images.gz").write_bytes(CONTENT)
    assert find("mnist", "images.gz") == tmp_path / "mnist" / "images.gz"
    assert locate("mnist", "images.gz", url="http://none.invalid/", md5=MD5) == find(
        "mnist", "images.gz"
    )


def test_what_is_missing_below_wiry_data_is_an_error_and_not_downloaded(
    cache, url, tmp_path, monkeypatch
):
    monkeypatch.setenv("WIRY_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"WIRY_DATA is .* no mnist/images.gz \(or images.png\)"):
        locate("mnist", "images.gz", url=url + "images.gz", md5=MD5, instead="images.png")
    assert not cache.exists()


def test_a_missing_file_is_downloaded_into_the_cache_once(cache, url):
    assert find("mnist", "images.gz") is None
    path = locate("mnist", "images.gz", url=url + "images.gz", md5=MD5)
    assert path == cache / "mnist" / "images.gz" == find("mnist", "images.gz")
    assert path.read_bytes() == CONTENT
    assert locate("mnist", "images.gz", url="http://none.invalid/", md5=MD5) == path


def test_a_download_that_is_not_there_says_to_set_wiry_data(cache, url):
    with pytest.raises(UserError, match=r"404.*Set WIRY_DATA to a folder"):
        locate("mnist", "labels.gz", url=url + "labels.gz", md5=MD5)
    assert find("mnist", "labels.gz") is None


def test_a_download_with_a_wrong_checksum_is_refused_and_not_kept(cache, url):
    with pytest.raises(UserError, match=r"could not be downloaded from .*Set WIRY_DATA"):
        locate("mnist", "images.gz", url=url + "images.gz", md5="0" * 32)
    assert find("mnist", "images.gz") is None


def test_no_network_is_one_clear_error(cache, monkeypatch):
    def fail(*_arguments, **_options):
        raise OSError("network is unreachable")

    monkeypatch.setattr(pooch, "retrieve", fail)
    with pytest.raises(UserError, match=r"network is unreachable. Set WIRY_DATA"):
        locate("mnist", "images.gz", url="http://none.invalid/", md5=MD5)
