"""What `largeds pack` takes: shards, patterns, tables and URLs of them; and what it says of others."""

from __future__ import annotations

import functools
import http.server
import io
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import largeds_native as lds
from largeds_native._internal.objects import ObjectFolder
from tests.builders.s3 import Bucket

Largeds = Callable[..., tuple[int, str, str]]
SMALL = ("--resize", "18", "--crop", "16", "--quiet", "--max-failures", "1.0")


@pytest.fixture
def data(tree: Path, tmp_path: Path) -> Path:
    """The images of `tree` as tree/, as shards of two images, and as tables with columns of unusual names."""
    folder = tmp_path / "data"
    shutil.copytree(tree, folder / "tree")
    (folder / "tree" / "dog" / "broken.jpg").unlink()
    files = sorted((folder / "tree").rglob("*.png"))
    for number in range(4):
        with tarfile.open(folder / f"train-{number:04d}.tar", "w") as shard:
            for file in files[2 * number : 2 * number + 2]:
                name = f"{file.parent.name}_{file.stem}"
                for ending, content in ((".png", file.read_bytes()), (".cls", b"1")):
                    member = tarfile.TarInfo(name + ending)
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))
    columns = {"kind": [file.parent.name for file in files], "weight": [float(i) for i in range(len(files))]}
    names = [str(file.relative_to(folder)) for file in files]
    lines = [",".join(map(str, line)) for line in zip(names, *columns.values(), strict=True)]
    (folder / "odd.csv").write_text("\n".join(["picture,kind,weight", *lines]) + "\n")
    pq.write_table(pa.table({"picture": names, **columns}), folder / "odd.parquet")
    pq.write_table(pa.table({"picture": [file.read_bytes() for file in files], **columns}), folder / "inside.parquet")
    return folder


@pytest.fixture
def packed(largeds: Largeds, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., lds.Store]:
    """The store of a pack that must succeed, from the folder of the data."""
    monkeypatch.chdir(data)

    def run(*arguments: object) -> lds.Store:
        shutil.rmtree(tmp_path / "o.lds", ignore_errors=True)
        assert largeds("pack", *arguments, tmp_path / "o.lds", *SMALL) == (0, "", "")
        return lds.open(tmp_path / "o.lds")

    return run


@pytest.mark.parametrize(
    "given",
    [
        ["train-*.tar"],
        ["train-{0000..0003}.tar"],
        ["train-000[01].tar", "train-000[23].tar"],
        [f"train-000{i}.tar" for i in range(4)],
    ],
)
def test_several_shards(packed: Callable[..., lds.Store], given: list[str]) -> None:
    with packed(*given) as store:
        assert len(store) == 8
        assert [str(name)[:14] for name in store.samples["source"].to_pylist()[::2]] == [
            f"train-000{i}.tar" for i in range(4)
        ]


def test_images_of_a_pattern(packed: Callable[..., lds.Store]) -> None:
    assert len(packed("tree/cat/*.png")) == 4
    assert len(packed("tree/{cat,dog}/[01].png")) == 4
    assert packed("tre*").classes == ["cat", "dog"]


@pytest.mark.parametrize("file", ["odd.csv", "odd.parquet", "inside.parquet"])
def test_columns_of_a_table(packed: Callable[..., lds.Store], file: str) -> None:
    with packed(file, "--path", "picture", "--label", "kind") as store:
        assert store.classes == ["cat", "dog"]
        assert store["weight"][:].tolist() == list(range(8))
        assert store["label"][:].tolist() == [0] * 4 + [1] * 4


def test_what_is_wrong(largeds: Largeds, data: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data)

    def said(*arguments: object) -> str:
        code, out, err = largeds("pack", *arguments, "o.lds", *SMALL)
        assert (code, out, err.count("\n"), Path("o.lds").exists()) == (1, "", 1, False)
        return err.removeprefix("largeds: ").strip()

    there = "found picture, kind, weight"
    assert said("odd.csv") == f"odd.csv: expected a column 'path', {there}: say path='...', or --path"
    assert said("odd.csv", "--path", "pictures") == f"odd.csv: expected a column 'pictures', {there}"
    assert said("odd.csv", "--path", "picture", "--label", "x") == f"odd.csv: expected a column 'x', {there}"
    assert said("odd.csv", "--path", "picture", "--masks", "x") == f"odd.csv: expected a column 'x', {there}"
    assert said("tree", "--path", "x").endswith("expected one .csv or .parquet file, found tree")
    assert said("odd.csv", "odd.parquet", "--path", "x").endswith("found odd.csv and odd.parquet")
    assert said("none-*.tar").startswith("none-*.tar: no file has a name of this pattern")
    assert "train-0004.tar" in said("train-{0003..0004}.tar")
    assert said("none").startswith("none does not exist: expected a folder of images, a .csv or .parquet table")
    assert said("tree/cat/0.png").startswith("tree/cat/0.png: expected a folder of images")
    assert "folders are packed one at a time" in said("tree", "train-0000.tar")
    assert "tables are packed one at a time" in said("odd.csv", "train-0000.tar")
    assert "found both: train-0000.tar and tree/cat/0.png" in said("tree/cat/0.png", "train-0000.tar")
    assert said(store) == f"{store} is a store: pass lds.open(...) of it, or --from-store"


def test_a_missing_argument_is_named(largeds: Largeds) -> None:
    """Of `largeds pack photos`, photos is not the store."""
    for arguments in (("pack", "photos"), ("import", "x.h5")):
        code, out, err = largeds(*arguments)
        assert (code, out) == (2, "")
        assert f"and the store to write, as: largeds {' '.join(arguments)} train.lds" in " ".join(err.split())


def test_a_folder_of_images_with_a_manifest_of_its_own(packed: Callable[..., lds.Store], data: Path) -> None:
    (data / "tree" / "manifest.json").write_text('{"format": "theirs"}')
    assert len(packed("tree")) == 8


def test_urls(packed: Callable[..., lds.Store], largeds: Largeds, data: Path) -> None:
    bucket = ObjectFolder("memory://pack-sources")
    for file in filter(Path.is_file, data.rglob("*")):
        bucket.write(str(file.relative_to(data)), file)
    for given in (["train-*.tar"], ["train-{0000..0003}.tar"], [f"train-000{i}.tar" for i in range(4)], ["tree"]):
        with packed(*(f"memory://pack-sources/{name}" for name in given)) as store:
            assert len(store) == 8
    with packed("memory://pack-sources/inside.parquet", "--path", "picture", "--label", "kind") as store:
        assert store.classes == ["cat", "dog"]
    with packed("memory://pack-sources/train-0000.tar", "train-0001.tar") as store:
        assert len(store) == 4
    code, _, err = largeds("pack", "memory://pack-sources/tree", "train-0001.tar", "o.lds", *SMALL)
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("largeds: memory://pack-sources/tree: several paths are tar files, or images; folders are")


@pytest.fixture
def server(data: Path) -> Iterator[str]:
    """The data over http, by a server that gives whole files only."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(data)))
    threading.Thread(target=served.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{served.server_address[1]}"
    finally:
        served.shutdown()
        served.server_close()


def test_http(packed: Callable[..., lds.Store], largeds: Largeds, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with packed(f"{server}/odd.csv?token=x", "--path", "picture", "--label", "kind") as store:
        assert len(store) == 8
    for name, told in (
        ("train-0000.tar", "whole objects only, and a part was asked for (HTTP Range): download it first"),
        ("train-0009.tar", "train-0009.tar does not exist"),
        ("train-*.tar", "files can't be listed over http: write numbers as {0000..0146}"),
    ):
        code, out, err = largeds("pack", f"{server}/{name}", "o2.lds", *SMALL)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert err.startswith(f"largeds: {server}/")
        assert told in err
    monkeypatch.setattr("largeds_native._internal.retries.ATTEMPTS", 2)
    code, _, err = largeds("pack", "http://127.0.0.1:1/a.tar", "o2.lds", *SMALL)
    assert code == 1
    assert "ClientConnectorError: Cannot connect to host 127.0.0.1:1" in err


@pytest.mark.s3
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_s3(packed: Callable[..., lds.Store], bucket: Bucket, data: Path) -> None:
    for shard in data.glob("*.tar"):
        ObjectFolder(f"{bucket.url}/shards").write(shard.name, shard)
    for name in ("train-*.tar", "train-{0000..0003}.tar"):
        assert len(packed(f"{bucket.url}/shards/{name}")) == 8
