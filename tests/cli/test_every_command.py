"""Every command gives one sentence and an exit code for bad input, a full disk, a narrow terminal, a closed pipe and
Ctrl-C. A new command has to be added to ARGUMENTS."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

import largeds_native as lds
from largeds_native.cli.app import app
from largeds_native.cli.output import emit_json
from tests.cli.conftest import ROOT, start_process

Largeds = Callable[..., tuple[int, str, str]]
MODEL = ("--model", "shufflenet_v2_x0_5", "--threads", "1")
# command -> its arguments: `what` it reads, and a folder `out` to write in
ARGUMENTS: dict[str, Callable[[Path, Path], tuple[object, ...]]] = {
    "pack": lambda what, out: (what, out / "o.lds", "--resize", "18", "--crop", "16"),
    "info": lambda what, out: (what,),
    "verify": lambda what, out: (what,),
    "view": lambda what, out: (what, out / "o.png"),
    "train": lambda what, out: (what, *MODEL, "-e", "1", "-b", "4", "--checkpoint-dir", out / "run"),
    "export": lambda what, out: (what, out / "o.h5"),
    "import": lambda what, out: (what, out / "o.lds"),
    "doctor": lambda what, out: (what, "--model", "none", "--seconds", "1", "-b", "2"),
    "bench": lambda what, out: (what, "--only", "load", "--work", out, "--rounds", "1"),
    "push": lambda what, out: (what, "memory://every-command/o.lds"),
    "pull": lambda what, out: (what, out / "p.lds"),
    "demo": lambda what, out: (what,),
}
LONG = ("bench", "demo", "push", "pull")  # minutes; or with a server, in test_remote.py
SHORT = [name for name in ARGUMENTS if name not in LONG]
READING = [name for name in ARGUMENTS if name != "demo"]


def test_every_command_is_here() -> None:
    assert set(typer.main.get_command(app).commands) == set(ARGUMENTS)  # type: ignore[attr-defined]


def sentence(result: tuple[int, str, str], code: int) -> str:
    found, out, err = result
    assert (found, out) == (code, ""), err
    assert err.startswith("largeds: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    return err


@pytest.fixture
def inputs(tree: Path, store: Path, tmp_path: Path) -> dict[str, Path]:
    """Valid input of each command."""
    lds.open(store).to_hdf5(tmp_path / "s.h5", progress=False)
    own = {"pack": tree, "bench": tree, "import": tmp_path / "s.h5", "demo": tmp_path / "demo"}
    return {name: own.get(name, store) for name in ARGUMENTS}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


# ---- paths -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", READING)
@pytest.mark.parametrize("kind", ["missing", "empty folder", "foreign store", "text file", "damaged store"])
def test_paths(largeds: Largeds, tmp_path: Path, out: Path, store: Path, name: str, kind: str) -> None:
    what = tmp_path / "what"
    if kind == "text file":
        what.write_text("hello")
    elif kind == "damaged store":
        what = store
        (store / "manifest.json").write_bytes((store / "manifest.json").read_bytes()[:-40])
        (store / "shard-00000" / "images.npy").write_bytes(b"")
    elif kind != "missing":
        what.mkdir()
        if kind == "foreign store":
            (what / "manifest.json").write_text(json.dumps({"format": "theirs", "version": 9}))
    err = sentence(largeds(name, *ARGUMENTS[name](what, out)), 1)
    assert what.name in err
    assert not [path for path in out.rglob("*") if path.name != "run"]


def test_the_demo_with_a_file_as_its_folder(largeds: Largeds, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    assert "file" in sentence(largeds("demo", tmp_path / "file"), 1)


def run_commands(commands: dict[str, tuple[object, ...]], user: int, shown: bool, **options: Any) -> Any:
    """Runs all in one process, since imports take most of the time."""
    encoded = json.dumps({name: [str(word) for word in arguments] for name, arguments in commands.items()})
    arguments = (user, "shown" if shown else "captured", encoded)
    return start_process(*arguments, module="tests.programs.run_commands", **options)


def test_no_permission(inputs: dict[str, Path], tmp_path: Path, out: Path) -> None:
    """Without read and write permission; root, who has all permissions, becomes nobody."""
    user = 65534 if os.geteuid() == 0 else 0
    tmp_path.chmod(0)
    try:
        commands = {name: ARGUMENTS[name](tmp_path / "s.lds", out) for name in READING}
        commands["demo"] = (out / "demo",)
        with run_commands(commands, user, shown=False, cwd="/") as processes:
            try:
                text, err = processes.communicate(timeout=240)
            finally:
                processes.kill()
    finally:
        tmp_path.chmod(0o700)
    assert "FOUND" in text, err
    found = json.loads(text.partition("FOUND")[2])
    assert set(found) == set(ARGUMENTS)
    for name, (code, message) in found.items():
        assert code == 1, (name, message)
        assert message.startswith("largeds: "), (name, message)
        assert message.count("\n") == 1, (name, message)


# ---- JSON ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [*SHORT, "push", "pull"])
def test_json_is_one_value_on_stdout(largeds: Largeds, inputs: dict[str, Path], out: Path, name: str) -> None:
    if name == "pull":
        lds.push(inputs["push"], "memory://every-json/o.lds", progress=False)
    what: Any = "memory://every-json/o.lds" if name == "pull" else inputs[name]
    code, text, err = largeds(name, *ARGUMENTS[name](what, out), "--json")
    assert (code, err) == (0, "")
    assert isinstance(json.loads(text, parse_constant=pytest.fail), dict)
    missing = (*ARGUMENTS[name](Path("/absent/s.lds"), out / "other"), "--json")
    sentence(largeds(name, *missing), 1)


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({"history": [{"loss": float("nan")}], "share": (float("inf"), 0.5)})
    assert json.loads(capsys.readouterr().out) == {"history": [{"loss": None}], "share": [None, 0.5]}


# ---- the surroundings ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["pack", "export", "import", "train", "view", "doctor", "demo", "bench"])
@pytest.mark.parametrize("tiny_disk", ["8k"], indirect=True)
def test_a_full_disk(
    largeds: Largeds, inputs: dict[str, Path], tree: Path, tiny_disk: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tiny_disk))
    own = {"doctor": tree, "demo": tiny_disk / "demo"}
    code, _, err = largeds(name, *ARGUMENTS[name](own.get(name, inputs[name]), tiny_disk))
    assert code == 1, err
    assert "disk" in err or "space" in err.lower()
    assert "Traceback" not in err


def test_a_narrow_terminal(inputs: dict[str, Path], out: Path) -> None:
    """With 40 columns, progress bars and tables."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    commands = {name: ARGUMENTS[name](inputs[name], out) for name in SHORT}
    commands["import"] = (inputs["import"], out / "imported.lds")
    streams = {"stdin": slave, "stdout": slave, "stderr": slave}
    with run_commands(commands, 0, shown=True, env={"TERM": "xterm"}, **streams) as processes:
        os.close(slave)
        text = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:
                break
            if not part:
                break
            text += part
        processes.wait(60)
    os.close(master)
    shown = text.decode()
    assert "Traceback" not in shown
    found = json.loads(shown.partition("FOUND")[2].replace("\r\n", ""))
    assert {name: code for name, (code, _) in found.items()} == dict.fromkeys(SHORT, 0), shown


@pytest.mark.parametrize("name", list(ARGUMENTS))
def test_help_in_40_columns(largeds: Largeds, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERMINAL_WIDTH", "40")
    code, out, err = largeds(name, "--help")
    assert (code, err) == (0, "")
    assert f"largeds {name}" in out


@pytest.mark.parametrize("name", SHORT)
def test_a_closed_pipe(
    largeds: Largeds, inputs: dict[str, Path], out: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """`largeds x | head -1`, where head ends before anything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        options = ARGUMENTS[name](inputs[name], out)
        code, _, err = largeds(name, *(options if name != "train" else (*options, "--json")))
        monkeypatch.undo()
    assert (code, err) == (141, "")


# the function that is interrupted, for the others open_store
INTERRUPTED = {
    "push": "largeds_native.store.push",
    "pull": "largeds_native.store.pull",
    "pack": "largeds_native.packing.plan",
    "import": "largeds_native.interchange.from_hdf5",
    "train": "largeds_native.cli.training.open_place",
    "doctor": "largeds_native.profile.doctor.run.open_store",
    "bench": "largeds_native.profile.bench.image_set.prepare_images",
    "demo": "largeds_native._internal.corpus.digits_tree",
}


@pytest.mark.parametrize("name", list(ARGUMENTS))
def test_ctrl_c(
    largeds: Largeds, inputs: dict[str, Path], out: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(INTERRUPTED.get(name, "largeds_native.opening.open_store"), stop)
    code, _, err = largeds(name, *ARGUMENTS[name](inputs[name], out))
    assert (code, err.count("\n"), err[:9]) == (130, 1, "largeds: ")
    assert "stopped" in err


def test_ctrl_c_during_the_imports() -> None:
    """Before the command is known, as imports take some time."""
    command = [sys.executable, "-m", "tests.programs.interrupt_import"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (130, "largeds: stopped\n")
