"""`make gpu-check` needs a GPU, and is seldom run: what can be wrong with it without one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def gpu_check() -> ModuleType:
    if not (ROOT / "benchmarks").is_dir():
        pytest.skip("the benchmarks are in a checkout")
    spec = importlib.util.spec_from_file_location("gpu_check", ROOT / "benchmarks" / "gpu_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check"] = module  # its dataclass looks there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_all_that_it_runs_is_there(gpu_check: ModuleType, device: str) -> None:
    stages = gpu_check.stages(device)
    assert [stage.name for stage in stages] == [
        "build", "tests", "load", "train", "trainer", "kernels", "threads", "train resnet50", "color",
    ]  # fmt: skip
    assert all((ROOT / test).exists() for test in gpu_check.TESTS)
    assert sum(stage.least for stage in stages) <= 480


def test_a_folder_with_the_image_libraries(gpu_check: ModuleType, tmp_path: Path) -> None:
    include, library = tmp_path / "usr" / "include", tmp_path / "usr" / "lib" / "x86_64-linux-gnu"
    for header in ("jpeglib.h", "png.h", "xxhash.h", "webp/decode.h"):
        (include / header).parent.mkdir(parents=True, exist_ok=True)
        (include / header).touch()
    library.mkdir(parents=True)
    (library / "libjpeg.so.62").touch()
    flags = gpu_check.library_flags(tmp_path)
    assert flags == {"CPATH": str(include), "LDFLAGS": f"-L{library} -Wl,-rpath,{library}"}
    (tmp_path / "usr" / "bin").mkdir()
    (tmp_path / "usr" / "bin" / "patchelf").touch()
    assert gpu_check.library_flags(tmp_path)["PATH"].endswith(str(tmp_path / "usr" / "bin"))


def test_a_folder_without_them(gpu_check: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="expected headers and libraries of libjpeg-turbo"):
        gpu_check.library_flags(tmp_path)


def test_a_stage_is_skipped_or_ended_where_time_is_short(gpu_check: ModuleType, tmp_path: Path) -> None:
    slow = gpu_check.Stage(
        "slow", [sys.executable, "-c", "print('begun', flush=True); import time; time.sleep(60)"], 1, 2
    )
    with open(tmp_path / "log", "w") as log:
        assert gpu_check.run(slow, 0.5, {}, log) == {"status": "skipped", "reason": "0 s left"}
        assert gpu_check.run(slow, 100, {"PYTHONFAULTHANDLER": "1"}, log)["status"] == "ended after 2 s"
    written = (tmp_path / "log").read_text()
    assert "begun" in written
    assert "most recent call first" in written  # where it was
