from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from largeds_native.errors import ArgumentError, PackError
from largeds_native.sources import tar


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
