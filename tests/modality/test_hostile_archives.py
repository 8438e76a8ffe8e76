"""Listing archives: bombs and damage are refused as a whole, at little cost."""

import bz2
import gzip
import lzma
import os
import random
import struct
import tarfile
import tracemalloc

import pytest

from core.contract.errors import InsufficientStorageError
from core.modality.archives import list_archive
from core.modality.errors import ArchiveError, StoppedError, UnreadableItemError
from core.settings import Settings
from tests.builders import image_bytes, make_tar, make_zip
from tests.modality.archives import FILES, central, contents, listing, patched, refused

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
    ids=lambda value: value if isinstance(value, str) else "",  # gzip's bytes carry the time
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
