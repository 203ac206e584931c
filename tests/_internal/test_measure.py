"""Measuring: turns, warm-up, ratios, intervals, and reports."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from largeds_native._internal import measure
from largeds_native._internal.measure import Contender, Measured, contention, intervals, paired_timing


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


def test_dropping_files_keeps_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 64)
    measure.drop_files([path])
    assert path.read_bytes() == bytes(range(256)) * 64


def test_the_rate_within_a_time_leaves_the_first_call_out() -> None:
    sizes = iter([1000, 1, 1])
    rate = measure.rate_within(lambda: [time.sleep(0.02), next(sizes)][1], 0.03)
    assert 20 < rate <= 50


def test_the_interval_of_a_median() -> None:
    median, low, high = intervals.median_interval([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (median, low) == (3.0, 1.0)
    assert 4.0 <= high <= 100.0


def test_the_ratio_of_the_fast_blocks() -> None:
    """By the tenth fastest of a hundred, whatever the slow ones are."""
    ordered = [float(i) for i in range(1, 12)]
    seconds = {"a": [2 * value for value in ordered], "b": [value if value < 6 else 100.0 for value in ordered]}
    ratio, low, high = paired_timing.fast_ratio(seconds, "a", "b")
    assert ratio == 2.0
    assert low <= 2.0 <= high


def test_training_loops_take_turns_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired_timing, "use_one_heap", lambda: None)  # it is for the whole process
    seen: list[str] = []

    def loop_named(name: str) -> Callable[[Any], None]:
        return lambda batches: seen.extend(name for _ in batches)

    seconds = paired_timing.time_blocks({name: loop_named(name) for name in "ab"}, "batch", block=3, rounds=4, warmup=1)
    assert {name: len(values) for name, values in seconds.items()} == {"a": 4, "b": 4}
    blocks = ["".join(seen[at : at + 3]) for at in range(0, len(seen), 3)]
    assert all(set(blocks[at : at + 2]) == {"aaa", "bbb"} for at in range(0, 10, 2))


def test_a_training_loop_that_ends_too_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired_timing, "use_one_heap", lambda: None)
    with pytest.raises(RuntimeError, match="ended before its data did"):
        paired_timing.time_blocks({"a": lambda batches: next(iter(batches))}, "batch", block=1, rounds=2)


def test_what_other_programs_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a second of each of two processors, others work for 1.2 s, and this process for none."""
    monkeypatch.setattr(contention.os, "sched_getaffinity", lambda _: {0, 2})
    monkeypatch.setattr(contention.os, "times", lambda: (0.0,) * 5)
    monkeypatch.setattr(contention.os, "sysconf", lambda _: 100)
    stat = tmp_path / "stat"
    monkeypatch.setattr(contention, "STAT", stat)
    stat.write_text(
        "cpu 9 9 9 9 9 9 9 9 9 9\ncpu0 10 0 0 50 0 0 0 0 0 0\ncpu1 7 0 0 0 0 0 0 0 0 0\ncpu2 0 0 0 0 0 0 0 0 0 0\n"
    )
    watch = contention.Contention()
    assert watch.share() is None  # no time has passed
    stat.write_text("cpu 9\ncpu0 60 0 20 80 0 0 0 0 50 0\ncpu1 99 0 0 0 0 0 0 0 0 0\ncpu2 0 20 0 40 10 0 0 30 0 0\n")
    assert watch.share() == pytest.approx(0.6)
    assert "60% of the processors" in contention.warning(0.6)
    stat.write_text("nonsense\n")
    assert watch.share() is None
    assert contention.warning(None) == contention.warning(0.05) == ""


def test_a_process_that_works_alone_is_not_disturbed_by_itself() -> None:
    watch, end = contention.Contention(), time.perf_counter() + 0.3
    while time.perf_counter() < end:
        pass
    share = watch.share()
    assert share is None or 0 <= share <= 1
