"""Stores on file systems that can't do everything that a local disk can."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.builders.stores import make_labelled_store

PROGRAMS = Path(__file__).parents[1] / "programs"


@pytest.fixture
def no_shared_mappings(tmp_path: Path) -> Path:
    built = tmp_path / "no_shared_mappings.so"
    command = ["cc", "-shared", "-fPIC", "-o", str(built), str(PROGRAMS / "no_shared_mappings.c"), "-ldl"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no C compiler here")
    return built


def hash_an_epoch(path: Path, preload: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROGRAMS / "hash_an_epoch.py", path],
        env=os.environ | {"LD_PRELOAD": str(preload)} | environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_a_file_system_that_maps_private_pages_only(tmp_path: Path, no_shared_mappings: Path) -> None:
    store = make_labelled_store(tmp_path, 20)
    expected = hashlib.sha256(np.asarray(store.images).tobytes()).hexdigest()
    done = hash_an_epoch(store.path, no_shared_mappings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == expected


def test_a_file_system_that_maps_no_files(tmp_path: Path, no_shared_mappings: Path) -> None:
    store = make_labelled_store(tmp_path, 20)
    done = hash_an_epoch(store.path, no_shared_mappings, NO_MAPPINGS="1")
    assert done.returncode == 1
    file = store.files("images")[0].path
    assert f"StorageError: can't map {file}: its file system does not support mmap. Copy the store" in done.stderr
