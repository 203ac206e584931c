"""Builds, tests and measures on a machine with a GPU, in one command and a given time: `make gpu-check`.

It uses the Python that runs it, with that one's torch, and downloads nothing. Where the system has no headers of the
image libraries, --libraries names a folder with them: Debian's packages (libjpeg62-turbo, libpng16-16, libwebp7,
libwebpdemux2 and their -dev packages, libxxhash-dev, and patchelf if that is missing) as .deb files or unpacked, or any
folder with `include` and `lib`. What doesn't fit into the time is skipped, and the last lines say so. Everything is
written to gpu-check.txt and gpu-check.json in --out.

python benchmarks/gpu_check.py [--device cuda] [--seconds 480] [--libraries FOLDER] [--only build tests ...]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
TESTS = (
    "tests/loading/test_cuda.py", "tests/loading/test_pinned_rows.py", "tests/loading/test_color.py",
    "tests/trainer/test_cuda.py", "tests/trainer/test_sharding_cuda.py",
    "tests/bind/test_tensors.py", "tests/common/test_simd.py", "tests/loading/test_gather.py",
    "tests/loading/test_loader.py", "tests/loading/test_dataset.py",
)  # fmt: skip


@dataclass
class Stage:
    """One command. It is skipped if less than `least` seconds are left, and ended after `most`."""

    name: str
    command: list[str]
    least: float
    most: float


def stages(device: str) -> list[Stage]:
    """In the order of their worth. On the CPU all of them in small, to see that they run."""

    def bench(name: str, *options: str, small: tuple[str, ...] = ()) -> list[str]:
        return [sys.executable, f"benchmarks/{name}.py", *(options if device != "cpu" else small)]

    tests = [one for one in TESTS if (ROOT / one).exists()]
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:benchmark", *tests]
    rows, on = ("--images", "64", "--batch", "8", "--rounds", "1"), ("--device", device)
    few = (*on, *rows, "--side", "32", "--counted", "3", "--steps", "2", "--models")
    found = [
        Stage("build", [sys.executable, "setup.py", "-q", "build_ext", "--inplace"], 0, 600),
        Stage("tests", [*pytest, *(["-n", "8"] if device != "cpu" else ["-n", "2", "-k", "cuda or device"])], 60, 150),
        Stage("load", bench("bench_gpu_load", *on, small=(*on, *rows, "--batches", "4")), 45, 100),
        Stage("train", bench("bench_gpu_train", *on, "--models", "resnet18", small=(*few, "resnet18")), 45, 110),
        Stage("trainer", bench("bench_trainer", *on, small=("--only", "nothing", "--rounds", "2")), 60, 130),
        Stage("kernels", bench("bench_kernels"), 25, 70),
        Stage("threads", bench("bench_threads"), 25, 70),
        Stage(
            "train resnet50", bench("bench_gpu_train", *on, "--models", "resnet50", small=(*few, "resnet18")), 40, 90
        ),
        Stage("color", bench("bench_color", "--rounds", "3", small=("--rounds", "1", "--batch", "4")), 20, 60),
    ]
    return [stage for stage in found if not stage.command[1].endswith(".py") or (ROOT / stage.command[1]).exists()]


def library_flags(folder: Path) -> dict[str, str]:
    """Environment variables with which the compiler and the linker find the image libraries in this folder."""
    unpacked = folder
    if debs := sorted(folder.glob("*.deb")):
        unpacked = Path(tempfile.mkdtemp(prefix="gpu-check-"))
        for deb in debs:
            subprocess.run(["dpkg", "-x", str(deb), str(unpacked)], check=True)
    headers = {path.parent for name in ("jpeglib.h", "jconfig.h", "png.h", "xxhash.h") for path in unpacked.rglob(name)}
    headers |= {path.parent.parent for path in unpacked.rglob("webp/decode.h")}
    libraries = {path.parent for name in ("libjpeg", "libpng", "libwebp") for path in unpacked.rglob(f"{name}*.so*")}
    if not headers or not libraries:
        sys.exit(f"{folder}: expected headers and libraries of libjpeg-turbo, libpng, libwebp and xxHash, found none")
    link = " ".join(f"-L{path} -Wl,-rpath,{path}" for path in sorted(map(str, libraries)))
    found = {"CPATH": os.pathsep.join(sorted(map(str, headers))), "LDFLAGS": link}
    if tool := next((path.parent for path in unpacked.rglob("bin/patchelf")), None):
        found["PATH"] = f"{os.environ['PATH']}{os.pathsep}{tool}"
    return found


def run(stage: Stage, left: float, environment: dict[str, str], log: Any) -> dict[str, Any]:
    """What became of the stage. Its output goes to the log and to the terminal."""
    if left < stage.least:
        return {"status": "skipped", "reason": f"{left:.0f} s left"}
    start, limit = time.monotonic(), min(left, stage.most)
    print(f"== {stage.name}: {' '.join(stage.command[1:])}", file=log, flush=True)
    process = subprocess.Popen(
        stage.command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=limit)
        status = "passed" if process.returncode == 0 else "failed"
    except subprocess.TimeoutExpired:
        output = ended(process)
        status = f"ended after {limit:.0f} s"
    print(output, file=log, flush=True)
    if stage.name != "build" or status != "passed":
        print(output[-20_000:], flush=True)
    return {"status": status, "returncode": process.returncode, "seconds": round(time.monotonic() - start, 1)}


def ended(process: subprocess.Popen[str]) -> str:
    """Its output, with what each thread was doing: faulthandler writes that at SIGABRT."""
    os.killpg(process.pid, signal.SIGABRT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.communicate(timeout=10)[0]
    os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()[0]


def machine() -> dict[str, Any]:
    import torch

    about = subprocess.run(["lscpu"], capture_output=True, text=True, check=False).stdout
    found = {
        "python": sys.version.split()[0], "torch": torch.__version__, "processors": os.cpu_count(),
        "processor": next((line.split(":")[1].strip() for line in about.splitlines() if "Model name" in line), ""),
        "avx512": sorted(flag for flag in about.split() if flag.startswith(("avx512", "amx"))),
    }  # fmt: skip
    if torch.cuda.is_available():
        found |= {"device": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    return found


def main() -> None:
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--libraries", type=Path, help="a folder with the image libraries and their headers")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu-check")
    parser.add_argument("--only", nargs="+", help="these stages")
    options = parser.parse_args()
    facts = machine()
    if options.device == "cuda" and "device" not in facts:
        sys.exit("torch finds no CUDA device: use a machine with an NVIDIA GPU, or DEVICE=cpu to try the check itself")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # one that is ended leaves no core
    options.out.mkdir(parents=True, exist_ok=True)
    results = Path(tempfile.mkdtemp(prefix="gpu-check-"))
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", "COLUMNS": "100",
        "LARGEDS_RESULTS": str(results), "LARGEDS_BENCH_DIR": str(results / "data"), "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    if options.libraries is not None:
        environment |= library_flags(options.libraries)
    became: dict[str, Any] = {}
    with open(options.out / "gpu-check.txt", "w") as log:
        for stage in stages(options.device):
            if options.only and stage.name not in options.only:
                continue
            became[stage.name] = run(stage, options.seconds - (time.monotonic() - started), environment, log)
            if stage.name == "build" and became["build"]["status"] != "passed":
                break
        lines = [f"{name}: {one['status']} {one.get('reason', one.get('seconds'))}" for name, one in became.items()]
        for file in (log, sys.stdout):
            print("\n".join([str(facts), *lines]), file=file)
    tables = {path.stem: json.loads(path.read_text()) for path in sorted(results.glob("*.json"))}
    content = {"machine": facts, "stages": became, "results": tables}
    (options.out / "gpu-check.json").write_text(json.dumps(content, indent=1))
    shutil.rmtree(results, ignore_errors=True)
    sys.exit(any(one["status"] not in ("passed", "skipped") for one in became.values()))


if __name__ == "__main__":
    main()
