from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from largeds_native.errors import ArgumentError, PackError
from largeds_native.sources import Source, as_source, tar


def make_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_webdatasets_convention(tmp_path: Path) -> None:
    first = make_tar(
        tmp_path / "0.tar",
        {"a/1.jpg": b"one", "a/1.cls": b"7\n", "a/2.png": b"two", "a/2.json": b'{"label": 8, "x": 1}', "readme": b"-"},
    )
    second = make_tar(tmp_path / "1.tar", {"3.seg.txt": b"", "3.cls": b"9", "3.webp": b"three", "4.cls": b"1"})
    source = tar([first, second])
    assert set(source.notes[0].removeprefix("left out: ").split(", ")) == {
        "1 without an ending",
        "2 samples without an image",
        "1 .seg.txt",
    }
    (batch,) = source.read(0, 10 if source.count is None else source.count)
    assert batch.names == ["0.tar:a/1", "0.tar:a/2", "1.tar:3"]
    assert batch.fields["label"].tolist() == [7, 8, 9]
    for item, data in zip(batch.items, [b"one", b"two", b"three"], strict=True):
        path, offset, length = item  # type: ignore[misc]
        assert Path(str(path)).read_bytes()[int(offset) : int(offset) + int(length)] == data


def test_hostile_names_are_not_used_as_paths(tmp_path: Path) -> None:
    names = ["../../etc/passwd.png", "/abs.png", "a/../b.png", "x\n\x1b[31m.png", "é.png"]
    source = tar(make_tar(tmp_path / "h.tar", dict.fromkeys(names, b"data")))
    assert source.count == len(names)
    assert source.fields == {}
    assert not (tmp_path / "etc").exists()


def test_links_and_folders_are_not_samples(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "l.tar", "w") as archive:
        for kind, name in ((tarfile.SYMTYPE, "s.png"), (tarfile.LNKTYPE, "l.png"), (tarfile.DIRTYPE, "d.png")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    with pytest.raises(PackError, match="has no image"):
        tar(tmp_path / "l.tar")


def test_invalid_archives(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"b\.tar: member '1\.cls': expected a whole number, found b'dog'"):
        tar(make_tar(tmp_path / "b.tar", {"1.png": b"", "1.cls": b"dog"}))
    with pytest.raises(ArgumentError, match="is not JSON"):
        tar(make_tar(tmp_path / "j.tar", {"1.png": b"", "1.json": b"{"}))
    with pytest.raises(ArgumentError, match="whole number"):
        tar(make_tar(tmp_path / "f.tar", {"1.png": b"", "1.json": b'{"label": 1.5}'}))
    with pytest.raises(ArgumentError, match="sample '2' has no label"):
        tar(make_tar(tmp_path / "m.tar", {"1.png": b"", "1.cls": b"1", "2.png": b""}))
    with pytest.raises(ArgumentError, match="not an uncompressed tar"):
        tar(make_tar(tmp_path / "z.tar", {"1.png": b"x"}, "w:gz"))
    (tmp_path / "t.tar").write_bytes(b"not a tar at all" * 100)
    with pytest.raises(ArgumentError, match="not an uncompressed tar"):
        tar(tmp_path / "t.tar")
    with pytest.raises(ArgumentError, match="No such file"):
        tar(tmp_path / "none.tar")


@pytest.mark.parametrize("keep", [5000, 1000, 700])
def test_cut_off(tmp_path: Path, keep: int) -> None:
    path = make_tar(tmp_path / "c.tar", {"1.png": b"x" * 9000, "2.png": b"y" * 9000})
    path.write_bytes(path.read_bytes()[: 10240 + keep] if keep != 700 else path.read_bytes()[:700])
    with pytest.raises(ArgumentError, match="cut off"):
        tar(path)


def labels_of(source: Source) -> dict[str, int]:
    (batch,) = source.read(0, source.count or 0)
    return dict(zip(batch.names, batch.fields["label"].tolist(), strict=True))


def image_of(source: Source) -> bytes:
    (batch,) = source.read(0, 1)
    path, offset, length = batch.items[0]  # type: ignore[misc]
    return Path(str(path)).read_bytes()[int(offset) : int(offset) + int(length)]


def test_the_whole_ending_says_what_a_member_is(tmp_path: Path) -> None:
    members = {
        "0.depth.png": b"depth",
        "0.target.cls": b"5",
        "0.png": b"image",
        "0.cls": b"3",
        "0.json": b'{"label": 9}',
    }
    for name, order in (("a.tar", members), ("b.tar", dict(reversed(members.items())))):
        source = tar(make_tar(tmp_path / name, order))
        assert image_of(source) == b"image"
        assert list(labels_of(source).values()) == [3]
        assert all(ending in source.notes[0] for ending in (".depth.png", ".target.cls"))


def test_what_is_ambiguous_is_refused(tmp_path: Path) -> None:
    dotted = {"v1.0_a.png": b"a", "v1.0_a.cls": b"1", "v1.0_b.png": b"b", "v1.0_b.cls": b"2"}
    with pytest.raises(ArgumentError, match=r"'v1\.0_a\.png' and 'v1\.0_b\.png' .* first dot"):
        tar(make_tar(tmp_path / "d.tar", dotted))
    with pytest.raises(ArgumentError, match=r"'0\.jpg' and '0\.png' are two images of one sample"):
        tar(make_tar(tmp_path / "i.tar", {"0.jpg": b"", "0.png": b""}))
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        for data in (b"1", b"2"):
            for name in ("0.png", "0.cls"):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    with pytest.raises(ArgumentError, match=r"two members are named '0\.png'"):
        tar(tmp_path / "t.tar")


def test_what_macos_adds_is_passed_over(tmp_path: Path) -> None:
    source = tar(make_tar(tmp_path / "m.tar", {"._0.png": b"x", "0.png": b"image", "._0.cls": b"\0", "0.cls": b"1"}))
    assert source.count == 1
    assert image_of(source) == b"image"
    assert source.notes == ()


def test_json_that_is_no_label(tmp_path: Path) -> None:
    members = {"0.png": b"", "0.cls": b"1", "0.json": b'{"label": "dog"}'}
    for name, order in (("a.tar", members), ("b.tar", dict(reversed(members.items())))):
        assert list(labels_of(tar(make_tar(tmp_path / name, order))).values()) == [1]
    source = tar(make_tar(tmp_path / "k.tar", {"0.png": b"", "0.json": b'[{"bbox": 1}]'}))
    assert source.fields == {}


def test_labels_and_files_that_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="expected a label of at most 64 bits, found 12345678901234567890"):
        tar(make_tar(tmp_path / "b.tar", {"0.png": b"", "0.cls": b"12345678901234567890"}))
    for source in (make_tar(tmp_path / "z.tar.gz", {"0.png": b""}, "w:gz"), tmp_path / "z.tar.gz"):
        with pytest.raises(ArgumentError, match=r"z\.tar\.gz .*run gunzip on it"):
            as_source(source)
    with pytest.raises(ArgumentError, match="empty list"):
        tar([])


def test_a_glob_is_several_files(tmp_path: Path) -> None:
    for i in range(2):
        make_tar(tmp_path / f"train-{i}.tar", {f"{i}.png": b""})
    assert as_source(str(tmp_path / "train-*.tar")).count == 2
    assert tar(tmp_path / "train-*.tar").count == 2


FIVE = {name: data for i in range(5) for name, data in ((f"{i}.png", b"x" * 600), (f"{i}.cls", str(i).encode()))}


def damaged(whole: bytes, at: int, kind: str) -> bytes:
    """`at`: where a member's header begins."""
    if kind == "cut":
        return whole[:at]
    if kind == "cut in a header":
        return whole[: at + 100]
    if kind == "two archives":
        return whole + whole
    header = bytearray(512) if kind == "zeros" else bytearray(whole[at : at + 512])
    header[150] ^= 0 if kind == "zeros" else 0x55
    return whole[:at] + bytes(header) + whole[at + 512 :]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("cut", r"d\.tar is cut off: at byte {at}, expected another member or the end"),
        ("cut in a header", r"d\.tar is cut off: at byte {at}"),
        ("flipped", r"d\.tar is damaged: at byte {at}, expected the header of a member"),
        ("zeros", r"after the end of the archive at byte {at}, found data at byte"),
        ("two archives", "two archives in one file; join archives with tar --concatenate"),
    ],
)
def test_an_archive_that_ends_early(tmp_path: Path, kind: str, words: str) -> None:
    path = make_tar(tmp_path / "d.tar", FIVE)
    with tarfile.open(path) as archive:
        at = [member.offset for member in archive][4]
    assert tar(path).count == 5
    path.write_bytes(damaged(path.read_bytes(), at, kind))
    with pytest.raises(ArgumentError, match=words.format(at=f"{at:,}")):
        tar(path)


def test_links_are_counted(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "l.tar", {"0.png": b"x"})
    with tarfile.open(path, "a") as archive:
        for kind, name in ((tarfile.LNKTYPE, "1.png"), (tarfile.SYMTYPE, "2.png"), (tarfile.FIFOTYPE, "3.png")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "0.png"
            archive.addfile(info)
    assert tar(path).notes == ("left out: 2 links, 1 devices or pipes",)


@pytest.mark.parametrize("text", [b"1_0", b"", b"1.0", "٣".encode()])
def test_texts_that_are_no_whole_number(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(ArgumentError, match="expected a whole number"):
        tar(make_tar(tmp_path / "b.tar", {"1.png": b"", "1.cls": text}))
