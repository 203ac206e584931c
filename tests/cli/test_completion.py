"""What the shell proposes when Tab is pressed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import largeds_native as lds
from tests.builders.stores import make_labelled_store
from tests.cli.conftest import ROOT

Largeds = Callable[..., tuple[int, str, str]]
Proposed = Callable[..., list[str]]


@pytest.fixture
def proposed(largeds: Largeds, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Proposed:
    """What bash proposes for the last of these words, in the folder of the test."""
    monkeypatch.chdir(tmp_path)

    def propose(*words: str) -> list[str]:
        monkeypatch.setenv("_LARGEDS_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(("largeds", *words)))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        code, out, err = largeds()
        assert (code, err) == (0, "")
        return out.split("\n")[:-1] if out.strip() else []

    return propose


def test_classes(proposed: Proposed, tmp_path: Path) -> None:
    make_labelled_store(tmp_path, 4, 16, classes=["cat", "cow", "great white", "it's"], name="s.lds")
    assert proposed("view", "s.lds", "--class", "c") == ["cat", "cow"]
    assert proposed("view", "-n", "4", "s.lds", "x.png", "--class", "cow") == ["cow"]
    assert proposed("view", "s.lds", "--class", "i") == [r"it\'s"]
    assert proposed("view", "s.lds", "--class", "g") == [r"great\ white"]
    assert proposed("view", "none.lds", "s3://bucket/s.lds", "--class", "") == []
    assert proposed("view", "--class", "") == []
    manifest = tmp_path / "s.lds" / "manifest.json"
    for text, names in (("[", []), ('{"classes": [1, null, ["a"], "b"]}', ["b"]), ('{"classes": "abc"}', [])):
        manifest.write_text(text)
        assert proposed("view", "s.lds", "--class", "") == names
    manifest.unlink()
    os.mkfifo(manifest)  # nobody writes to it
    os.mkfifo(tmp_path / "pipe.csv")
    assert proposed("view", "s.lds", "--class", "") == proposed("pack", "pipe.csv", "--path", "") == []


def test_columns_of_a_table(proposed: Proposed, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("\ufefffile, kind,weight\n", "utf-8")
    pq.write_table(pa.table({"jpg": [b"x"], "kind": ["cat"]}), tmp_path / "t.parquet")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "tree").mkdir()
    assert proposed("pack", "t.csv", "--path", "") == ["file", "kind", "weight"]
    assert proposed("pack", "t.parquet", "o.lds", "--label", "k") == ["kind"]
    assert proposed("pack", "t.csv", "--masks", "w") == ["weight"]
    for source in ("tree", "empty.csv", "none.csv", "memory://x/t.csv"):
        assert proposed("pack", source, "--path", "") == []


def test_datasets_of_an_hdf5_file(proposed: Proposed, store: Path, tmp_path: Path) -> None:
    lds.open(store).to_hdf5(tmp_path / "s.h5", progress=False)
    (tmp_path / "text.h5").write_text("text")
    assert proposed("import", "s.h5", "--images", "") == ["data", "labels"]
    assert proposed("import", "s.h5", "o.lds", "--labels", "l") == ["labels"]
    assert proposed("import", "text.h5", "--images", "") == []


def test_models(proposed: Proposed) -> None:
    models = pytest.importorskip("torchvision").models
    assert sorted(proposed("train", "s.lds", "--model", "")) == sorted(models.list_models(module=models))
    for command in ("doctor", "bench"):
        assert proposed(command, "--model", "resnet1") == ["resnet18", "resnet101", "resnet152"]


def test_paths_are_left_to_the_shell(proposed: Proposed, store: Path) -> None:
    for command in ("info", "view", "train", "verify", "export", "push", "pack", "doctor"):
        assert proposed(command, "t") == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_in_bash(tmp_path: Path) -> None:
    """By the script that --show-completion prints."""
    make_labelled_store(tmp_path, 2, 16, classes=["cat", "great white"], name="s.lds")
    command = tmp_path / "largeds"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {shlex.quote(sys.executable)} -m largeds_native "$@"\n')
    command.chmod(0o755)
    script = f"""
        eval "$(_LARGEDS_COMPLETE=source_bash {shlex.quote(str(command))})"
        COMP_WORDS=(largeds view s.lds --class "") COMP_CWORD=4
        _largeds_completion {shlex.quote(str(command))}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.stdout, done.stderr) == ("cat\ngreat\\ white\n", "")


def test_the_command_line_begins_without_torch() -> None:
    """It is imported for each proposal and for --help."""
    program = "import sys, largeds_native.cli.app; print([m for m in ('torch', 'h5py', 'pyarrow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"
