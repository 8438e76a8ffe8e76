"""Listing archives: the usual ones agree with the standard library, the hostile ones are refused."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import random
import stat
import struct
import subprocess
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest

from core.contract.errors import InsufficientStorageError
from core.modality.archives import Listing, clean_name, list_archive, printable
from core.modality.errors import ArchiveError, StoppedError, UnreadableItemError
from core.modality.reader import read_stored
from core.settings import Settings
from tests.builders import folder_files, image_bytes, make_tar, make_zip

FILES = {**folder_files({"cats": 3, "dogs": 2}), "empty.bin": b"", "text.txt": b"words " * 500}


def listing(tmp_path: Path, data: bytes, **limits) -> Listing:
    upload = tmp_path / "upload"
    upload.write_bytes(data)
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    return list_archive(upload, limits=Settings(**limits), scratch=scratch)


def contents(found: Listing) -> dict[str, bytes]:
    descriptor = os.open(found.content, os.O_RDONLY)
    try:
        return {entry.name: read_stored(descriptor, entry) for entry in found.entries}
    finally:
        os.close(descriptor)


def refused(tmp_path: Path, data: bytes, **limits) -> ArchiveError:
    with pytest.raises(ArchiveError) as caught:
        listing(tmp_path, data, **limits)
    assert caught.value.hint
    assert not list((tmp_path / "scratch").iterdir())
    return caught.value


def codes(found: Listing) -> dict[str, str]:
    return {refused.name: refused.code for refused in found.refused}


def plain_tar(add) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        add(archive)
    return buffer.getvalue()


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


def central(data: bytes, name: str) -> int:
    """Where the directory's record of an entry begins."""
    return data.rfind(name.encode()) - 46


def patched(data: bytes, at: int, format: str, value: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(format, changed, at, value)
    return bytes(changed)


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


# Bombs


def test_zip_bomb_by_ratio(tmp_path):
    error = refused(tmp_path, make_zip({"zeros.png": bytes(30_000_000)}, deflate=True))
    assert error.code == "archive_bomb"
    assert error.details["unpacked_bytes"] == 30_000_000
    assert refused(tmp_path, make_zip({"z.png": bytes(3_000_000)}, deflate=True), max_ratio=500).code == "archive_bomb"


def test_small_flat_drawings_are_no_bomb(tmp_path):
    assert listing(tmp_path, make_zip({"white.bmp": bytes(1_000_000)}, deflate=True)).entries


def test_zip_bomb_by_many_small_entries(tmp_path):
    data = make_zip({f"{n}.bmp": bytes(1_000_000) for n in range(20)}, deflate=True)
    assert refused(tmp_path, data).code == "archive_bomb"


def test_tar_gz_bomb_stops_early(tmp_path):
    error = refused(tmp_path, gzip.compress(make_tar({"zeros.png": bytes(60_000_000)})))
    assert error.code == "archive_bomb"
    assert error.details["unpacked_bytes"] < 16_000_000
    for pack in (bz2.compress, lzma.compress):
        assert refused(tmp_path, pack(bytes(30_000_000))).code == "archive_bomb"


def test_overlapping_entries_are_a_bomb(tmp_path):
    """Fifield's construction in small: many directory records that point to one kernel."""
    data = make_zip({"aaaa.png": image_bytes(0), "bbbb.png": image_bytes(1)})
    record = data[central(data, "aaaa.png") : central(data, "bbbb.png")]
    end = data.rfind(b"PK\5\6")
    start = central(data, "aaaa.png")
    directory = record * 50
    tail = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 50, 50, len(directory), start, 0)
    assert refused(tmp_path, data[:start] + directory + tail).code == "archive_bomb"
    # Quoted local headers: the first entry's data reaches over the second one's header.
    stored = struct.unpack_from("<I", data, start + 20)[0]
    longer = bytearray(data)
    for field in (20, 24):
        struct.pack_into("<I", longer, start + field, stored + 60)
    assert end > 0
    assert refused(tmp_path, bytes(longer)).code == "archive_bomb"


def test_too_many_entries(tmp_path):
    files = {f"{n}.txt": b"" for n in range(30)}
    for data in (make_zip(files), make_tar(files), make_tar(files, gz=True)):
        assert refused(tmp_path, data, max_entries=29).code == "too_many_entries"
        assert len(listing(tmp_path, data, max_entries=30).entries) == 30


def test_a_lying_entry_count_costs_nothing(tmp_path):
    """One entry declared, hundreds of thousands in the directory: counted while reading, not after."""
    record = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"a"
    directory = record * 300_000
    tail = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(directory), len(local), 0)
    data = local + directory + tail
    tracemalloc.start()
    try:
        assert refused(tmp_path, data, max_entries=1000).code == "too_many_entries"
        assert tracemalloc.get_traced_memory()[1] < 8_000_000 < len(directory)
    finally:
        tracemalloc.stop()


def test_unpacked_size_limit(tmp_path):
    files = {f"{n}.bin": os.urandom(5000) for n in range(30)}
    for data in (make_zip(files), make_zip(files, deflate=True), make_tar(files), make_tar(files, gz=True)):
        assert refused(tmp_path, data, max_unpacked_bytes=100_000).code == "archive_too_large"


def test_lying_size_is_found_when_read(tmp_path):
    """An entry that declares 10 bytes and inflates to 5 MB is read no further than 11."""
    data = make_zip({"a.bin": bytes(5_000_000)}, deflate=True)
    lying = patched(data, central(data, "a.bin") + 24, "<I", 10)
    found = listing(tmp_path, lying)
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableItemError, match="size it declares") as caught:
            contents(found)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert caught.value.code == "damaged_entry"


def test_huge_extended_header_in_a_tar(tmp_path):
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE):
        info = tarfile.TarInfo("x")
        info.type, info.size = kind, 2_000_000
        data = info.tobuf() + bytes(2_000_384) + bytes(1024)
        assert refused(tmp_path, data).code == "unreadable_archive"


def test_negative_and_nonsense_tar_sizes(tmp_path):
    info = tarfile.TarInfo("x.png")
    for size in (b"\xff" * 12, b"12z45678901\0", b"-0000000100\0"):
        block = bytearray(info.tobuf())
        block[124:136] = size
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        assert refused(tmp_path, bytes(block) + bytes(1024)).code == "unreadable_archive"


# Damage


def test_every_truncation_is_refused(tmp_path):
    tar = make_tar(FILES).rstrip(b"\0")
    for whole in (make_zip(FILES), tar, make_tar(FILES, gz=True), bz2.compress(make_tar(FILES))):
        for share in (0.2, 0.5, 0.8, 0.97):
            error = refused(tmp_path, whole[: int(len(whole) * share)])
            assert error.code in ("unreadable_archive", "not_an_archive")
            assert error.code == "unreadable_archive" or share < 0.3


def test_damage_never_escapes_as_another_error(tmp_path):
    rng = random.Random(0)
    outcomes = set()
    for whole in (make_zip(FILES, deflate=True), make_tar(FILES)):
        for _ in range(150):
            data = bytearray(whole)
            region = range(len(data) - 900, len(data)) if whole[:2] == b"PK" else range(512)
            for at in rng.sample(region, 2):
                data[at] = rng.randrange(256)
            try:
                contents(listing(tmp_path, bytes(data)))
                outcomes.add("read")
            except (ArchiveError, UnreadableItemError) as error:
                outcomes.add(error.code)
    assert {"read", "unreadable_archive"} <= outcomes


def test_entry_that_reaches_into_the_directory(tmp_path):
    data = make_zip({"a.bin": bytes(99)})
    for field in (20, 24):
        data = patched(data, central(data, "a.bin") + field, "<I", 120)
    assert refused(tmp_path, data).code == "unreadable_archive"


def test_damaged_middle_of_a_tar(tmp_path):
    data = bytearray(make_tar({"a.png": bytes(100), "b.png": bytes(100)}))
    data[1024:1034] = b"??????????"
    assert refused(tmp_path, bytes(data)).code == "unreadable_archive"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "empty"),
        (image_bytes(0), "single image"),
        (image_bytes(0, format="JPEG"), "single image"),
        (b"label,text\n1,hello\n", "text"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(600), "7z"),
        (b"Rar!\x1a\x07\x01\0" + bytes(600), "RAR"),
        (b"%PDF-1.7" + bytes(600), "PDF"),
        (os.urandom(4) + bytes(range(256)), "not known"),
        (gzip.compress(image_bytes(0)), "no tar"),
        (gzip.compress(b"text" * 999), "no tar"),
    ],
)
def test_what_is_no_archive(tmp_path, data, what):
    error = refused(tmp_path, data)
    assert error.code == "not_an_archive"
    assert what in error.message


def test_empty_archives_list_nothing(tmp_path):
    for data in (make_zip({}), make_tar({}), make_tar({}, gz=True)):
        assert listing(tmp_path, data).entries == []


def test_stopping_while_decompressing(tmp_path):
    upload = tmp_path / "upload"
    upload.write_bytes(make_tar(FILES, gz=True))
    with pytest.raises(StoppedError):
        list_archive(upload, limits=Settings(), scratch=tmp_path, should_stop=lambda: True)
    assert [path.name for path in tmp_path.iterdir()] == ["upload"]


def test_full_disk(tmp_path, monkeypatch):
    upload = tmp_path / "upload"
    upload.write_bytes(make_tar(FILES, gz=True))
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InsufficientStorageError):
        list_archive(upload, limits=Settings(), scratch=scratch)
    assert not list(scratch.iterdir())
