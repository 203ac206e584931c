"""The conclusions of `largeds doctor` from known results."""

from __future__ import annotations

import dataclasses

import pytest

from largeds_native.profile.doctor import summary
from largeds_native.profile.doctor.results import LoopResult, Part, PartKind, ProfileResults, RowsRate


def results_of(baseline: float | None = None, packed: float = 100.0, **rates: float) -> ProfileResults:
    """1,000 images; rates of the parts by kind, and of the loops, in images/s."""
    kinds: dict[str, PartKind] = {"workers": "workers", "loader": "loader", "step": "step", "disk": "disk"}
    parts = [Part(kinds[name], name, rate) for name, rate in rates.items()]
    loops = [rate and LoopResult("epoch", rate, 0.0, 1000 / rate, 0.03, 0.5) for rate in (baseline, packed)]
    found = ProfileResults("photos", baseline is None, 1000, 3 << 10, 64, "m", "cpu", 2, parts=parts)
    found.baseline, found.packed = loops[0] or None, loops[1] or None
    found.pack_seconds = None if baseline is None else 12.0
    return found


def test_the_step_limits() -> None:
    found = results_of(packed=95, loader=5000, step=100, disk=20)
    assert summary.summary(found)["limit"] == "step"
    assert "An epoch of 1,000 images takes 11 s ±3%" in summary.sentence(found)
    assert "training step limits it with 100 images/s, where the loader alone reaches 5,000" in summary.sentence(found)
    assert "Change nothing in loading" in summary.advice(found)
    assert "torch.compile" in summary.advice(dataclasses.replace(found, device="cuda"))


def test_the_loader_limits() -> None:
    found = results_of(packed=90, loader=100, step=5000, disk=20)
    assert summary.summary(found)["limit"] == "loader"
    assert "torch.bfloat16" in summary.advice(found)
    assert "as uint8" in summary.advice(dataclasses.replace(found, dtype="float32"))
    assert summary.summary(found)["first_packed_epoch_seconds"] == pytest.approx(50)


def test_larger_than_memory_the_disk_limits() -> None:
    found = dataclasses.replace(results_of(packed=90, loader=100, step=5000, disk=20), fits=False)
    assert summary.summary(found)["limit"] == "disk"
    assert summary.summary(found)["packed_epoch_seconds"] == pytest.approx(50)
    assert "order='block'" in summary.advice(found)


def test_what_packing_saves() -> None:
    found = results_of(baseline=10, packed=100, workers=10, loader=1000, step=120, disk=500)
    content = summary.summary(found)
    assert (content["limit"], content["saved_seconds_an_epoch"]) == ("workers", pytest.approx(90))
    assert (
        "packed it takes 10 s, and packing (12 s, once) has paid for itself after the first epoch"
        in content["sentence"]
    )
    assert "`largeds pack photos STORE.lds` (3.1 MB)" in content["advice"]
    slow = results_of(baseline=99, packed=100, workers=500, loader=1000, step=100, disk=500)
    assert "would save nothing" in summary.sentence(slow)
    assert "Change nothing in loading" in summary.advice(slow)


def test_a_saving_within_the_spread_is_none() -> None:
    found = results_of(baseline=80, packed=100, workers=80, loader=1000, step=120, disk=500)
    assert "has paid for itself" in summary.sentence(found)
    assert found.baseline is not None
    assert found.packed is not None
    loops = [dataclasses.replace(loop, spread=0.15) for loop in (found.baseline, found.packed)]
    found = dataclasses.replace(found, baseline=loops[0], packed=loops[1])
    assert "would save nothing beyond the spread: packed, it takes 10 s ±15%" in summary.sentence(found)
    assert "Pack it" not in summary.advice(found)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.0123, "0.012 s"), (3.04, "3 s"), (42, "42 s"), (200, "3 min 20 s"), (7800, "2 h 10 min")],
)
def test_durations(seconds: float, expected: str) -> None:
    assert summary.duration(seconds) == expected


@pytest.mark.parametrize(
    ("raw", "jpeg", "step", "device", "expected"),
    [
        (RowsRate("raw", 150_000, 40_000, 9000, True), RowsRate("jpeg", 30_000, 4000, 45_000, True), 0, "cuda", "raw"),
        # the disk limits what memory does not hold
        (RowsRate("raw", 150_000, 40_000, 900, False), RowsRate("jpeg", 30_000, 4000, 4500, False), 0, "cuda", "jpeg"),
        # the model limits both, so that the smaller rows do
        (RowsRate("raw", 150_000, 40_000, 9000, True), RowsRate("jpeg", 30_000, 4000, 9000, True), 900, "cuda", "jpeg"),
        # on the CPU, decoding takes processors from the model
        (RowsRate("raw", 150_000, 40_000, 9000, True), RowsRate("jpeg", 30_000, 900, 9000, True), 900, "cpu", "raw"),
    ],
)
def test_the_kind_of_rows_is_chosen(raw: RowsRate, jpeg: RowsRate, step: float, device: str, expected: str) -> None:
    rates = {"loader": 40_000.0, "disk": 9000.0} | ({"step": step} if step else {})
    found = dataclasses.replace(results_of(packed=100, **rates), rows=[raw, jpeg], device=device)
    content = summary.summary(found)
    assert content["recommended_rows"] == expected
    named = {"raw": "raw rows", "jpeg": "JPEG rows"}
    assert content["rows_sentence"].startswith(f"Take {named[expected]}: an epoch over {named[expected]} (")
    assert "150.0 kB an image" in content["rows_sentence"]
    assert "30.0 kB an image" in content["rows_sentence"]
    alone = dataclasses.replace(found, rows=[raw])
    assert summary.rows_sentence(alone) == ""
    assert "recommended_rows" not in summary.summary(alone)


def test_jpeg_rows_are_recommended_in_the_command() -> None:
    found = results_of(baseline=10, packed=100, workers=10, loader=1000, step=120, disk=500)
    raw, jpeg = RowsRate("raw", 150_000, 9000, 500, False), RowsRate("jpeg", 30_000, 4000, 2500, True)
    assert "--codec jpeg` (30.0 MB)" in summary.advice(dataclasses.replace(found, rows=[raw, jpeg]))


def test_rows_that_the_disk_has_no_room_for() -> None:
    found = results_of(baseline=10, packed=100, workers=10, loader=1000, step=120, disk=500)
    raw = RowsRate("raw", 150_000, 40_000, 9000, True, has_room=False)
    jpeg = RowsRate("jpeg", 30_000, 400, 45_000, True)
    found = dataclasses.replace(found, rows=[raw, jpeg], free_bytes=100_000_000)
    assert summary.summary(found)["recommended_rows"] == "jpeg"
    assert "raw rows (150.0 kB an image, more than the 100.0 MB that are free here)" in summary.rows_sentence(found)
    assert "free" not in summary.advice(found)
    none = dataclasses.replace(found, rows=[raw, dataclasses.replace(jpeg, has_room=False)], free_bytes=10_000_000)
    assert "--codec jpeg` (30.0 MB)" in summary.advice(none)
    assert "The disk of this folder has 10.0 MB free: pack to another one, or to a bucket" in summary.advice(none)


def test_a_store_on_another_machine() -> None:
    found = dataclasses.replace(results_of(packed=90, loader=100, step=5000, disk=20), remote_files="nfs4")
    assert "Copy" not in summary.advice(found)  # it fits into memory
    large = dataclasses.replace(found, fits=False)
    assert summary.advice(large) == (
        "Copy the store to a local disk: it is larger than memory, and each epoch reads it by nfs4."
    )


def test_advice_about_jpeg_rows() -> None:
    found = dataclasses.replace(results_of(packed=90, loader=100, step=5000, disk=20), codec="jpeg")
    assert "more threads" in summary.advice(found)
    assert "order='block'" in summary.advice(dataclasses.replace(found, fits=False))
