"""Measuring: turns, warm-up, ratios, intervals, and what is written down."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from largeds_native._internal import measure
from largeds_native._internal.measure import Contender, Measured


def test_contenders_take_turns_after_a_warm_up() -> None:
    calls: list[str] = []

    def run(name: str) -> int:
        calls.append(name)
        return 10

    contenders = [Contender("a", lambda: run("a"), before=lambda: calls.append("-")), Contender("b", lambda: run("b"))]
    results = measure.take_turns(contenders, rounds=3, warmup=1)
    assert "".join(calls) == "-ab" + "b-a" + "-ab" + "b-a"
    assert [len(m.rates) for m in results] == [3, 3]


def test_median_spread_and_ratio() -> None:
    ours, peer = Measured("ours", "ours", [90.0, 100.0, 130.0]), Measured("peer", "peer", [50.0])
    assert ours.median == 100.0
    assert ours.spread == pytest.approx(0.2)
    assert measure.ratio([ours, peer], "ours", "peer") == 2.0


def test_the_table_names_the_limit_and_the_base(capsys: pytest.CaptureFixture[str]) -> None:
    results = [
        Measured("memcpy", "limit", [400.0]),
        Measured("ours", "ours", [300.0]),
        Measured("h5py", "peer", [20.0]),
    ]
    Console(width=100).print(measure.table("Loading", results, note="a machine"))
    shown = capsys.readouterr().out
    for word in ("Loading", "limit: memcpy", "x h5py", "15.00", "a machine"):
        assert word in shown


def test_json_holds_every_round_and_the_machine(tmp_path: Path) -> None:
    facts = measure.machine_facts(cache="cold")
    assert {"processor", "threads", "torch"} <= facts.keys()
    assert facts["page cache"] == "cold"
    content = measure.as_json("pack", [Measured("ours", "ours", [1.0, 2.0])], facts)
    measure.write_json(tmp_path / "deep" / "pack.json", content)
    read = json.loads((tmp_path / "deep" / "pack.json").read_text())
    assert read["results"][0]["rates"] == [1.0, 2.0]
    assert read["machine"] == facts


def test_forgetting_keeps_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 64)
    measure.forget([path])
    assert path.read_bytes() == bytes(range(256)) * 64
