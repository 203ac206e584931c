"""`largeds bench`: all candidates do the same work on the same files; failed peers are listed; the chart."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import largeds_native as lds
from largeds_native._internal.corpus import jpeg_corpus
from largeds_native.profile.bench import decoders, pack_stage
from largeds_native.profile.bench.candidates import Candidate, compare
from largeds_native.profile.bench.chart import draw_chart
from largeds_native.profile.bench.image_set import prepare_images
from tests.cli.conftest import start_process
from tests.cli.test_bad_input import sentence

Largeds = Callable[..., tuple[int, str, str]]


def quiet(text: str) -> None:
    pass


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jpeg_corpus(tmp_path_factory.mktemp("bench") / "jpeg", 12)


def test_all_stages_on_a_folder(largeds: Largeds, tree: Path, tmp_path: Path) -> None:
    """PNG files, one of which is not an image."""
    code, out, err = largeds("bench", tree, "--rounds", "1", "--threads", "1", "--chart", tmp_path / "b.png", "--json")
    assert (code, err) == (0, "")
    content = json.loads(out)
    assert (content["images"], content["threads"], content["source"]) == (8, 1, str(tree))
    assert {"processor", "threads", "torch", "torchvision", "h5py"} <= content["machine"].keys()
    for question in content["questions"]:
        roles = [result["role"] for result in question["results"]]
        assert roles.count("ours") == 1
        assert roles[0] == ("reference" if question["name"] == "pack" else "limit")
        names = {result["name"] for result in question["results"]} | set(question["missing"])
        assert {"torchvision + DataLoader", "HDF5 + DataLoader", "largeds_native"} <= names
        assert all(rate > 0 for result in question["results"] for rate in result["rates"])
    pack, load, train = content["questions"]
    for question, peers in ((pack, ("OpenCV, threads", "DALI, CPU", "FFCV writer")), (load, ("DALI, CPU", "FFCV"))):
        assert set(peers) <= {r["name"] for r in question["results"]} | set(question["missing"])
    assert train["question"] == "train: shufflenet_v2_x0_5, batches of 32, on the CPU"
    with Image.open(tmp_path / "b.png") as picture:
        assert picture.size[0] > 1000


def test_the_built_in_corpus_without_json(largeds: Largeds, tmp_path: Path) -> None:
    code, out, err = largeds("bench", "--only", "pack", "-n", "2", "--rounds", "1", "--work", tmp_path / "w")
    assert (code, err) == (0, "")
    for expected in ("2 images of the built-in corpus", "libjpeg-turbo, whole image", "largeds_native", "processor "):
        assert expected in out
    assert len(list((tmp_path / "w" / "jpeg").rglob("*.jpg"))) == 2


def test_jpeg_rows(largeds: Largeds, tree: Path) -> None:
    options = ("--only", "load", "--rows", "jpeg", "--rounds", "1", "--threads", "1", "--json")
    code, out, err = largeds("bench", tree, *options)
    assert (code, err) == (0, "")
    content = json.loads(out)
    (load,) = content["questions"]
    assert (content["images"], load["name"]) == (8, "load")
    assert "from JPEG rows" in load["question"]
    names = {result["name"] for result in load["results"]}
    assert {"largeds_native", "torchvision + DataLoader", "libjpeg-turbo, whole image"} <= names
    assert "FFCV" in names | set(load["missing"])
    assert all(rate > 0 for result in load["results"] for rate in result["rates"])
    sentence(largeds("bench", tree, "--rows", "jpeg"), 2, "expected --only load")


@pytest.mark.filterwarnings("ignore:.*TorchVision are deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", ["torchvision", "opencv", "dali_rows"])
def test_peers_do_the_same_work(name: str, jpegs: Path, tmp_path: Path) -> None:
    """Their rows equal our images, within the difference of resize algorithms."""
    paths = sorted(map(str, jpegs.rglob("*.jpg")))
    try:
        done = decoders.to_rows(getattr(decoders, name), paths, 2, tmp_path / "rows.npy")
    except ImportError as error:
        pytest.skip(str(error))
    assert done == len(paths)
    rows = np.load(tmp_path / "rows.npy").astype(int)
    ours = lds.decode_batch(paths).permute(0, 2, 3, 1).numpy()
    assert np.abs(rows - ours).mean() < 8


def test_the_sample_is_spread_over_classes(jpegs: Path, tree: Path, tmp_path: Path) -> None:
    work = prepare_images(jpegs, tmp_path, 4, 1, quiet)
    assert [Path(path).suffix for path in work.paths] == [".jpg"] * 4
    assert len({Path(path).parent for path in work.paths}) == 4
    work = prepare_images(tree / "dog", tmp_path, 100, 1, quiet)  # flat, and one is broken; made anew
    assert len(work.paths) == work.count == 4
    assert work.store.classes == ["images"]


def test_failed_peers_are_listed_with_the_reason() -> None:
    def fails() -> int:
        raise ValueError("this machine\nis too small")

    def absent() -> Callable[[], int]:
        raise ModuleNotFoundError("No module named 'nvidia.dali'", name="nvidia.dali")

    calls: list[str] = []
    good = [
        Candidate(
            "slow", lambda: lambda: [calls.append("slow"), time.sleep(0.02)] and 1, before=lambda: calls.append("-")
        ),
        Candidate("fast", lambda: lambda: [calls.append("fast")] and 1, "ours"),
        Candidate("wall", lambda: lambda: 1, "limit"),
    ]
    answer = compare("q", "Question", [*good, Candidate("a", lambda: fails), Candidate("b", absent)], 2, quiet)
    assert [measured.name for measured in answer.results] == ["wall", "fast", "slow"]
    assert answer.missing == {
        "a": "ValueError: this machine",
        "b": "not installed (pip install nvidia-dali-cuda130)",
    }
    assert calls.count("slow") == calls.count("-") == 4
    with pytest.raises(ValueError, match="too small"):
        compare("q", "Question", [Candidate("ours", lambda: fails, "ours")], 1, quiet)


def test_contenders_start_with_an_empty_folder(tree: Path, tmp_path: Path) -> None:
    work = prepare_images(tree, tmp_path, 100, 1, quiet)
    for candidate in pack_stage.candidates(work):
        assert candidate.before is not None
        candidate.before()
        assert list(work.out.iterdir()) == []
        (work.out / "left.npy").touch()


def question(**rates: list[float]) -> dict[str, Any]:
    roles = {"ours": "ours", "limit": "limit", "reference": "reference"}
    results = [
        {"name": name, "role": roles.get(name, "peer"), "rates": values, "median": float(np.median(values))}
        for name, values in rates.items()
    ]
    return {"question": "load: <b>&", "results": results}


def test_the_chart_has_all_candidates_and_the_limit() -> None:
    drawn = question(peer=[10.0, 12.0], ours=[300.0], limit=[400.0], reference=[200.0])
    svg = draw_chart([drawn, question(ours=[1.0])], "a machine", "svg").decode()
    assert svg == draw_chart([drawn, question(ours=[1.0])], "a machine", "svg").decode()
    # matplotlib draws letters as shapes, and leaves the text beside them
    for expected in ("load: &lt;b&gt;&amp;", "limit: limit, 400", "reference, 200", "ours", "peer", "300", "a machine"):
        assert f"<!-- {expected} -->" in svg.replace("00  -->", "00 -->"), expected
    assert svg.index("<!-- ours -->") < svg.index("<!-- peer -->")
    with pytest.raises(lds.errors.LargedsError, match="nothing to draw"):
        draw_chart([question()], "", "png")


def test_bad_input(largeds: Largeds, tree: Path, tmp_path: Path) -> None:
    empty, store, broken = tmp_path / "empty", tmp_path / "s.lds", tmp_path / "broken"
    empty.mkdir()
    broken.mkdir()
    (broken / "a.jpg").write_bytes(b"not an image")
    lds.pack(tree, store, resize=18, crop=16, progress=False)
    for arguments, code, expected in (
        ((tmp_path / "absent",), 1, "expected a folder of images"),
        ((tree / "dog" / "0.png",), 1, "expected a folder of images, found a file"),
        ((empty,), 1, "has no image"),
        ((store,), 1, "has no image"),
        ((broken,), 1, "none of"),
        ((tree, "--only", "all"), 2, "all"),
        ((tree, "-n", "1"), 2, "--images"),
        ((tree, "--chart", tmp_path / "a.gif"), 1, "expected a name that ends in .png or .svg"),
        ((tree, "--chart", tmp_path / "no" / "a.png"), 1, "is not a folder"),
        ((tree, "--work", tree / "dog" / "0.png"), 1, "0.png"),
    ):
        sentence(largeds("bench", *arguments, "--json"), code, expected)
    sentence(largeds("bench", tree, "--only", "train", "--model", "resnet19", "--json"), 1, "no classifier 'resnet19'")


def test_without_matplotlib(largeds: Largeds, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    sentence(largeds("bench", tree, "--chart", tmp_path / "a.png"), 1, "pip install 'largeds-native[charts]'")


@pytest.mark.parametrize("tiny_disk", ["40k"], indirect=True)
def test_a_full_disk(largeds: Largeds, tree: Path, tiny_disk: Path) -> None:
    sentence(largeds("bench", tree, "--work", tiny_disk, "--json"), 1, "are needed")
    (tiny_disk / "filler").write_bytes(bytes(30_000))
    chart_too = ("--only", "pack", "--rounds", "1", "--chart", tiny_disk / "a.png", "--json")
    sentence(largeds("bench", tree, *chart_too), 1, "a.png can't be written: No space left on device")
    assert [path.name for path in tiny_disk.iterdir()] == ["filler"]


def test_ctrl_c_leaves_no_folder(tree: Path, tmp_path: Path) -> None:
    command = ("largeds_native.profile.bench.pack_stage", "candidates", "bench", tree, "--json")
    with start_process(*command, module="tests.programs.wait_in_command", env={"TMPDIR": str(tmp_path)}) as bench:
        assert bench.stdout is not None
        assert bench.stdout.readline() == "ready\n"
        bench.send_signal(signal.SIGINT)
        _, err = bench.communicate(timeout=60)
        assert (bench.returncode, err) == (130, "largeds: stopped\n")
    assert list(tmp_path.iterdir()) == []
