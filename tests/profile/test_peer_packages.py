"""`make bench` ends with the peers that are not installed, and what to type to get them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest

from largeds_native.profile import peer_packages
from largeds_native.profile.bench.candidates import reason

ROOT = Path(__file__).parents[2]
OURS = {"largeds_native", "tests"}
# the corpora and the chart need these, not a comparison
OTHERS = {"PIL", "matplotlib", "skimage", "sklearn", "triton"}


def imported(file: Path) -> Iterator[str]:
    """The packages that a file imports, anywhere in it, also by `import_module`."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "find_spec")):
            (argument,) = node.args
            if isinstance(argument, ast.Constant):
                yield str(argument.value).partition(".")[0]


def test_every_package_that_a_benchmark_compares_with_is_known() -> None:
    if not (ROOT / "benchmarks").is_dir():
        pytest.skip("the benchmarks are in a checkout")
    files = [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "largeds_native" / "profile").rglob("*.py")]
    pages = "\n".join(page.read_text() for page in (ROOT / "docs" / "recipes").glob("*.md"))
    found = {name for file in files for name in imported(file)}
    found |= set(re.findall(r"^(?:import|from) (\w+)", pages, re.MULTILINE))
    dependencies = {re.split(r"\W", line)[0] for line in requires("largeds-native") or () if "extra ==" not in line}
    known = {peer.module.partition(".")[0] for peer in peer_packages.PEERS}
    local = {file.stem for file in files}
    assert found - set(sys.stdlib_module_names) - local - dependencies - OURS - OTHERS <= known


def test_what_is_not_installed_is_listed_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    absent = peer_packages.missing()
    assert peer_packages.Peer("OpenCV", "cv2", "pip install opencv-python-headless") in absent
    assert "h5py" not in {peer.module for peer in absent}  # a dependency


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("nvidia.dali", "not installed (pip install nvidia-dali-cuda130)"),
        ("cv2", "not installed (pip install opencv-python-headless)"),
        ("something.new", "not installed (pip install something)"),
    ],
)
def test_a_peer_says_what_to_type(module: str, said: str) -> None:
    assert reason(ModuleNotFoundError(f"No module named '{module}'", name=module)) == said


def test_the_list_is_the_end_of_make_bench() -> None:
    if not (ROOT / "benchmarks").is_dir():
        pytest.skip("the benchmarks are in a checkout")
    command = ["make", "--no-print-directory", "-n", "bench", f"PYTHON={sys.executable}"]
    steps = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert steps[-1].endswith("benchmarks/missing_peers.py")
    program = "import sys; sys.modules['kornia'] = None; sys.path.insert(0, 'benchmarks'); import runpy; "
    program += "runpy.run_path('benchmarks/missing_peers.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "  kornia: pip install kornia\n" in done.stdout
