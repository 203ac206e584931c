"""Bad input, pipes and signals give one sentence and an exit code, never a traceback."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

import largeds_native as lds
from tests.cli.conftest import start_process

Largeds = Callable[..., tuple[int, str, str]]


def sentence(result: tuple[int, str, str], code: int, expected: str) -> None:
    found, out, err = result
    assert found == code, err
    assert expected in " ".join(err.split())
    assert "Traceback" not in err
    assert out == ""


def test_paths(largeds: Largeds, store: Path, tree: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "file").write_text("text")
    for command in ("info", "verify"):
        sentence(largeds(command, tmp_path / "absent"), 1, "does not exist")
        sentence(largeds(command, empty), 1, "is not a store")
        sentence(largeds(command, tmp_path / "file"), 1, "is not an HDF5 file")
    sentence(largeds("pack", tmp_path / "absent", tmp_path / "x.lds"), 1, "does not exist")
    sentence(largeds("pack", empty, tmp_path / "x.lds"), 1, "no image")
    sentence(largeds("pack", tree, empty / "no" / ".." / ".." / "file", "-q"), 1, "file")
    sentence(largeds("export", store, tmp_path / "file"), 1, "exists")
    sentence(largeds("export", store, tmp_path / "no" / "a.h5"), 1, "not a folder")


def test_several_sources(largeds: Largeds, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,label\na.png,1\n")
    for other, kind in ((tree, "folders"), (tmp_path / "m.csv", "tables")):
        expected = f"several paths are tar files, or images; {kind} are packed one at a time"
        sentence(largeds("pack", other, other, tmp_path / "x.lds"), 1, expected)
    assert not (tmp_path / "x.lds").exists()


def test_options(largeds: Largeds, store: Path, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "x"
    for arguments, expected in (
        (("pack", tree, out, "--resize", "big"), "expected a side (256)"),
        (("pack", tree, out, "--shard-bytes", "1X"), "expected a number of bytes"),
        (("pack", tree, out, "--mean", "a,b"), "expected numbers separated by commas"),
        (("pack", tree, out, "--dtype", "int4"), "int4"),
        (("pack", tree, out, "--threads", "0"), "--threads"),
        (("pack",), "Missing argument 'OUT'"),
        (("pack", tree), "expected images and the store to write"),
        (("export", store, out, "--rows", "9-x"), "expected rows and ranges"),
        (("bench", "s3://bucket/photos"), "expected a local path, found the URL s3://bucket/photos"),
        (("import", "s3://bucket/x.h5", out), "expected a local path, found the URL s3://bucket/x.h5"),
        (("export", store, out, "--mean", "0,0,0"), "together, found only one"),
        (("export", store, out, "--compression", "zip"), "expected gzip, lzf or"),
        (("nonsense",), "No such command"),
        (("info", store, "--nonsense"), "--nonsense"),
    ):
        sentence(largeds(*arguments), 2, expected)
    sentence(largeds("pack", tree, out, "--mean", "0,0,0", "--dtype", "float32"), 1, "expected mean and std together")
    sentence(largeds("export", store, out, "--rows", "8"), 1, "expected row numbers from 0 to 7, found 8")
    assert not out.exists()


def test_an_export_under_another_formats_name(largeds: Largeds, store: Path, tmp_path: Path) -> None:
    sentence(largeds("export", store, tmp_path / "x.tar"), 1, "this writes HDF5, and the name says another format")
    sentence(largeds("export", store, tmp_path / "x.h5", "--rows", "5-2"), 2, "expected the smaller row first, as 2-5")
    assert not list(tmp_path.glob("x.*"))


def test_names_that_the_terminals_encoding_lacks(tmp_path: Path) -> None:
    for name in ("Schäferhund", "犬"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "tree" / name / "a.png")
    lds.pack(tmp_path / "tree", tmp_path / "s.lds", resize=8, progress=False)
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    with start_process("info", tmp_path / "s.lds", "--classes", env=environment) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "\\u72ac" in out


def test_a_broken_pipe_is_quiet(store: Path) -> None:
    with start_process("info", store, stdin=subprocess.DEVNULL) as info:
        assert info.stdout is not None
        assert info.stderr is not None
        info.stdout.close()  # before it has written anything
        assert info.stderr.read() == ""
        assert info.wait(60) == 141


def test_ctrl_c(tmp_path: Path) -> None:
    """During a command, and with the message of a pack."""
    command = ("largeds_native.opening", "open_store", "info", "x")
    with start_process(*command, module="tests.programs.wait_in_command") as info:
        assert info.stdout is not None
        assert info.stdout.readline() == "ready\n"
        time.sleep(0.1)
        info.send_signal(signal.SIGINT)
        _, err = info.communicate(timeout=60)
        assert (info.returncode, err) == (130, "largeds: stopped\n")
