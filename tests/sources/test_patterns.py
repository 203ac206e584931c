from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import largeds_native as lds
from largeds_native._internal.objects import ObjectFolder
from largeds_native.errors import ArgumentError, MissingObjectError
from largeds_native.sources import patterns
from largeds_native.sources.patterns import expand
from largeds_native.sources.resolve import _kind


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("a.tar", ["a.tar"]),
        ("t-{0008..0011}.tar", ["t-0008.tar", "t-0009.tar", "t-0010.tar", "t-0011.tar"]),
        ("t-{8..11}.tar", ["t-8.tar", "t-9.tar", "t-10.tar", "t-11.tar"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{0..1}", ["0", "1"]),
        ("{train,val}-{00..01}.tar", ["train-00.tar", "train-01.tar", "val-00.tar", "val-01.tar"]),
        ("a{,b}", ["a", "ab"]),
        ("{a}{}{a..b}", ["{a}{}{a..b}"]),
        ("s3://bucket/t-{0..1}.tar", ["s3://bucket/t-0.tar", "s3://bucket/t-1.tar"]),
        ("https://host/t.tar?policy={a,b}", ["https://host/t.tar?policy={a,b}"]),
        ("https://host/t-{0..1}.tar?sig=[x]", ["https://host/t-0.tar?sig=[x]", "https://host/t-1.tar?sig=[x]"]),
    ],
)
def test_braces_are_those_of_bash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, paths: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expand(pattern) == paths


def test_files_that_exist(tmp_path: Path) -> None:
    for name in ("b1", "b0", "a0", "{0..1}", "[b]"):
        (tmp_path / name).touch()
    assert expand(tmp_path / "b*") == [str(tmp_path / name) for name in ("b0", "b1")]
    assert expand(f"file://{tmp_path}/?0") == [str(tmp_path / name) for name in ("a0", "b0")]
    assert expand(tmp_path / "{b,a}?") == [str(tmp_path / name) for name in ("b0", "b1", "a0")]
    for name in ("{0..1}", "[b]"):  # their own names
        assert expand(tmp_path / name) == [str(tmp_path / name)]
    with pytest.raises(ArgumentError, match=r"c\*: no file has a name of this pattern"):
        expand(tmp_path / "c*")


def test_folders_that_exist_stand_for_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("run[1]/a*b/x-0.tar", "run[1]/a*b/x-1.tar", "run1/x-0.tar", "run[1]/acb/x-0.tar"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert expand("run[1]/a*b/x-*.tar") == ["run[1]/a*b/x-0.tar", "run[1]/a*b/x-1.tar"]
    assert expand(tmp_path / "run[1]" / "a?b" / "x-*.tar") == [
        str(tmp_path / name) for name in ("run[1]/a*b/x-0.tar", "run[1]/a*b/x-1.tar", "run[1]/acb/x-0.tar")
    ]
    assert expand("ru[n]1/x-*.tar") == ["run1/x-0.tar"]


def test_objects_are_listed() -> None:
    folder = ObjectFolder("memory://patterns/shards")
    for name in ("t-1.tar", "t-0.tar", "v.tar", "odd*.tar", "odd[1]a.tar", "below/t-2.tar"):
        folder.write(name, b"")
    assert expand("memory://patterns/shards/t-*.tar") == [f"memory://patterns/shards/t-{i}.tar" for i in (0, 1)]
    assert expand("memory://patterns/shards/odd*.tar") == ["memory://patterns/shards/odd*.tar"]
    assert expand("memory://patterns/shards/odd[1]*.tar") == ["memory://patterns/shards/odd[1]a.tar"]
    assert expand("memory://none/a[1]?.tar") == ["memory://none/a[1]?.tar"]  # no request
    with pytest.raises(ArgumentError, match="no object has a name of this pattern"):
        expand("memory://patterns/shards/x*.tar")
    with pytest.raises(MissingObjectError):
        expand("memory://patterns/none/*.tar")


def test_http_has_no_listing() -> None:
    with pytest.raises(ArgumentError, match=r"https://host/t-\*.tar: files can't be listed over http"):
        expand("https://user:secret@host/t-*.tar?sig=secret")


def test_the_number_of_paths_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "MOST", 100)
    assert len(expand("{0..9}{0..9}")) == 100
    for pattern in ("{0..999999999999999999}", "{0..9}{0..10}"):
        with pytest.raises(ArgumentError, match="at most 100 paths"):
            expand(pattern)


def test_images_of_a_list_have_their_own_names(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"i{number}.png")
    options: dict[str, Any] = {"resize": None, "crop": None, "progress": False, "max_failures": 1.0}
    given = [tmp_path / "i0.png", str(tmp_path / "i[12].png"), tmp_path / "i{1,2}.png"]
    store = lds.pack(given, tmp_path / "list.lds", **options)
    assert (len(store), sum(store.report.failed.values())) == (1, 2)
    assert len(lds.pack(tmp_path / "i*.png", tmp_path / "all.lds", **options)) == 3
    assert len(lds.pack(tmp_path / "i0*.png", tmp_path / "one.lds", **options)) == 1


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a.TAR", "tar file"),
        ("s3://b/X.TAR", "tar file"),
        ("a.tar.gz", "tar file"),
        ("a.TGZ", "tar file"),
        ("s3://my.tar.bucket", "folder"),
        ("s3://b/v.tar.d/", "folder"),
        ("s3://b/a.tar.parquet", "table"),
        ("a.b.Jpeg", "image"),
        ("a.tar.d", ".d"),
    ],
)
def test_what_a_name_says(path: str, kind: str) -> None:
    assert _kind(path) == kind
