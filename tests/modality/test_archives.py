"""Listing archives: the usual ones agree with the standard library, odd names and entries are refused one by one."""

import bz2
import gzip
import hashlib
import io
import lzma
import stat
import subprocess
import tarfile
import zipfile
import zlib

import pytest

from core.modality.archives import clean_name, printable
from tests.builders import image_bytes, make_tar, make_zip
from tests.modality.archives import FILES, central, codes, contents, listing, patched, plain_tar

# What should be read


@pytest.mark.parametrize("deflate", [False, True])
def test_zip(tmp_path, deflate):
    found = listing(tmp_path, make_zip(FILES, deflate=deflate))
    assert contents(found) == FILES
    assert found.content_sha256 is None
    assert {entry.deflated for entry in found.entries} == {deflate}
    assert all(entry.crc == zlib.crc32(FILES[entry.name]) for entry in found.entries)


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, bz2.compress, lzma.compress, lambda data: gzip.compress(data) + bytes(700)]
)
def test_tar_in_any_wrapping(tmp_path, pack):
    plain = make_tar(FILES)
    found = listing(tmp_path, pack(plain))
    assert contents(found) == FILES
    if pack is not bytes:
        assert found.content.read_bytes() == plain
        assert found.content_sha256 == hashlib.sha256(plain).hexdigest()


def test_gzip_of_several_members(tmp_path):
    plain = make_tar(FILES)
    found = listing(tmp_path, gzip.compress(plain[:700]) + gzip.compress(plain[700:]))
    assert contents(found) == FILES


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_formats_with_long_names(tmp_path, format):
    names = ["short.png", "folder/" * 12 + "image.png"]
    if format != tarfile.USTAR_FORMAT:
        names += ["ñ/" + "n" * 150 + "/" + "x" * 120 + ".png", "猫/1.png"]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format, pax_headers={"comment": "all"}) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name[::-1].encode()[: len(name)]))
    found = contents(listing(tmp_path, buffer.getvalue()))
    assert found == {name: name[::-1].encode()[: len(name)] for name in names}


def test_gnu_tar_program_agrees(tmp_path):
    folder = tmp_path / "set" / ("long" * 30) / "cats"
    folder.mkdir(parents=True)
    (folder / "1.png").write_bytes(image_bytes(0))
    made = subprocess.run(["tar", "-C", str(tmp_path), "-cf", "-", "./set"], capture_output=True, check=True)
    found = listing(tmp_path, made.stdout)
    assert contents(found) == {f"set/{'long' * 30}/cats/1.png": image_bytes(0)}
    assert found.folders == ["set", f"set/{'long' * 30}", f"set/{'long' * 30}/cats"]


def test_zip_with_bytes_in_front_and_a_comment(tmp_path):
    buffer = io.BytesIO(b"#!/bin/sh\n" * 10)
    buffer.seek(0, 2)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = b"PK\5\6 a comment that looks like an end record" + bytes(30)
        archive.writestr("a.txt", b"one")
    assert contents(listing(tmp_path, buffer.getvalue())) == {"a.txt": b"one"}


def test_zip64(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open("a.txt", "w", force_zip64=True) as file:
        file.write(b"one")
    assert contents(listing(tmp_path, buffer.getvalue())) == {"a.txt": b"one"}
    many = {f"{number}.txt": b"" for number in range(66_000)}
    assert len(listing(tmp_path, make_zip(many)).entries) == 66_000


def test_streamed_zip_with_data_descriptors(tmp_path):
    class Pipe(io.RawIOBase):
        def __init__(self):
            self.data = b""

        def writable(self):
            return True

        def write(self, chunk):
            self.data += bytes(chunk)
            return len(chunk)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.txt", b"one" * 99)
        archive.writestr("a/2.txt", b"two" * 99)
    assert contents(listing(tmp_path, pipe.data)) == {"a/1.txt": b"one" * 99, "a/2.txt": b"two" * 99}


def test_folders_are_listed(tmp_path):
    found = listing(tmp_path, make_zip({"data/": b"", "data/cats/": b"", "data/cats/1.txt": b"1"}))
    assert found.folders == ["data", "data/cats"]
    assert [entry.name for entry in found.entries] == ["data/cats/1.txt"]


def test_names_without_the_utf8_flag(tmp_path):
    raw = make_zip({"n_ndu/1.txt": b"1"})
    utf8 = raw.replace(b"n_ndu/1.txt", "ñndu/1.txt".encode())
    assert [entry.name for entry in listing(tmp_path, utf8).entries] == ["ñndu/1.txt"]
    cp437 = raw.replace(b"n_ndu", b"n\xa4ndu"[:5])
    assert [entry.name for entry in listing(tmp_path, cp437).entries] == ["nñndu"[:5] + "/1.txt"]


# Names


@pytest.mark.parametrize(
    "name",
    [
        "../1.png", "a/../../1.png", "/etc/1.png", "C:/1.png", "c:1.png", "a\\1.png", "..\\1.png", "a/\0.png",
        "a\n.png", "..", "", ".", "a/\udcff.png", "x" * 2000, "a/\u0085.png",
    ],
)  # fmt: skip
def test_unsafe_names(name):
    assert clean_name(name) is None
    assert printable(name).isprintable() or not name


def test_clean_names():
    assert clean_name("./a//b/./1.png") == "a/b/1.png"
    assert clean_name("cafe\u0301/1.png") == "caf\u00e9/1.png"
    assert clean_name("a..b/...png") == "a..b/...png"


def test_unsafe_entries_are_refused_one_by_one(tmp_path):
    bad = ["../evil.png", "/abs.png", "a/../../up.png", "C:\\x.png", "dir\\y.png"]
    files = {name: image_bytes(0) for name in [*bad, "good/1.png"]}
    for data in (make_zip(files), make_tar(files)):
        found = listing(tmp_path, data)
        assert [entry.name for entry in found.entries] == ["good/1.png"]
        assert codes(found) == dict.fromkeys(bad, "unsafe_path")
    nul = make_zip({"aXb.png": b"1"}).replace(b"aXb.png", b"a\0b.png")
    assert codes(listing(tmp_path, nul)) == {"a\\x00b.png": "unsafe_path"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scratch", "upload"]


# Links, devices, passwords


def test_tar_specials_are_refused(tmp_path):
    kinds = {
        "sym": tarfile.SYMTYPE,
        "hard": tarfile.LNKTYPE,
        "fifo": tarfile.FIFOTYPE,
        "char": tarfile.CHRTYPE,
        "block": tarfile.BLKTYPE,
        "sparse": tarfile.GNUTYPE_SPARSE,
    }

    def add(archive):
        for name, kind in kinds.items():
            info = tarfile.TarInfo(f"{name}.png")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("cats/1.png")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))

    found = listing(tmp_path, plain_tar(add))
    assert contents(found) == {"cats/1.png": b"abc"}
    links = {"sym.png", "hard.png"}
    assert codes(found) == {f"{n}.png": "link" if f"{n}.png" in links else "special_file" for n in kinds}


def test_zip_specials_are_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, mode in {"sym": stat.S_IFLNK, "fifo": stat.S_IFIFO, "file": stat.S_IFREG}.items():
            info = zipfile.ZipInfo(f"{name}.png")
            info.create_system = 3
            info.external_attr = (mode | 0o644) << 16
            archive.writestr(info, b"/etc/passwd")
    found = listing(tmp_path, buffer.getvalue())
    assert [entry.name for entry in found.entries] == ["file.png"]
    assert codes(found) == {"sym.png": "link", "fifo.png": "special_file"}


def test_encrypted_and_oddly_compressed_entries_are_refused(tmp_path):
    data = make_zip({"secret.png": image_bytes(0), "good.png": image_bytes(1)})
    found = listing(tmp_path, patched(data, central(data, "secret.png") + 8, "<H", 1))
    assert codes(found) == {"secret.png": "encrypted_entry"}
    assert [entry.name for entry in found.entries] == ["good.png"]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("odd.png", image_bytes(0))
    assert codes(listing(tmp_path, buffer.getvalue())) == {"odd.png": "unsupported_compression"}


def test_item_size_limit(tmp_path):
    files = {"big.png": bytes(2000), "small.png": bytes(900)}
    for data in (make_zip(files), make_tar(files)):
        found = listing(tmp_path, data, max_item_bytes=1000)
        assert codes(found) == {"big.png": "item_too_large"}
        assert [entry.name for entry in found.entries] == ["small.png"]
