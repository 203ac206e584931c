"""The command itself: what is asked, of whom, and how the answers are shown."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from largeds_native.cli.output import Narrator, emit_json
from largeds_native.cli.pictures import checked, write_picture
from largeds_native.cli.values import JSON, THREADS

if TYPE_CHECKING:
    from largeds_native.cli.bench.candidates import Answer, Note
    from largeds_native.cli.bench.work import Work


class Question(str, Enum):
    pack = "pack"
    load = "load"
    train = "train"


def bench(
    source: Annotated[
        Path | None, typer.Argument(help="A folder of images, one a class or flat. Default: images made for this.")
    ] = None,
    only: Annotated[list[Question] | None, typer.Option(help="Ask only this; may come again. Default: all.")] = None,
    images: Annotated[int, typer.Option("--images", "-n", min=2, help="So many at most, spread over SOURCE.")] = 500,
    rounds: Annotated[int, typer.Option(min=1, help="In which all take turns, after one to warm up.")] = 3,
    model: Annotated[str, typer.Option(help="A torchvision classifier, for train.")] = "shufflenet_v2_x0_5",
    chart: Annotated[Path | None, typer.Option(help="Also draw a .png or .svg.")] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder for images and stores, kept. Default: a temporary one, see $TMPDIR.")
    ] = None,
    threads: THREADS = None,
    json: JSON = False,
) -> None:
    """Measure packing, loading and training: ours, the usual ways, and the limit that nobody can pass.

    \b
    Examples:
      largeds bench
      largeds bench photos/train --only load
      largeds bench photos/train -n 2000 --rounds 5 --model resnet18
      largeds bench --chart bench.svg --json > bench.json

    Everybody reads the same files, with as many threads or workers, and makes 3 x 224 x 224 (shorter side 256, centre
    crop). Compared are torchvision, OpenCV, DALI, FFCV and HDF5 (h5py), as far as they are installed; the others are
    named. Rates are medians over the rounds, ± half the distance between the slowest and the fastest. Some minutes.
    """
    from largeds_native._internal.machine import usable_threads
    from largeds_native._internal.measure import machine_facts
    from largeds_native.cli.bench import chart as charts
    from largeds_native.cli.bench.work import prepared

    if chart is not None:
        checked(chart, charts.KINDS)
        charts.needed()
    out, start = Narrator(json), time.perf_counter()
    asked = [question for question in Question if question in (only or Question)]
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # of peers, about their own innards
        folder = _folder(work, stack)
        done = prepared(source, folder, images, threads or usable_threads(), out.note)
        stack.enter_context(done.store)
        out.line(f"{done.count:,} images of {source or 'the built-in corpus'}, with {done.threads} threads or workers")
        answers = []
        for question in asked:
            answers.append(_answer(question, done, model, rounds, out.note))
            _show(answers[-1], out)
    content = _content(answers, machine_facts() | _versions(), done, source) | {
        "rounds": rounds,
        "seconds": round(time.perf_counter() - start, 1),
    }
    caption = f"images/s. {content['machine']['processor']}, {done.threads} threads or workers each"
    caption += f"; {done.count:,} images of {Path(content['source']).name}"
    caption += f"; medians and extremes of {rounds} round{'s' * (rounds > 1)}"
    if chart is not None:
        kind = chart.suffix.lower()[1:]
        write_picture(chart, charts.chart(content["questions"], caption, kind))
    if json:
        emit_json(content)
    else:
        out.line(", ".join(f"{name} {value}" for name, value in content["machine"].items()))
        if chart is not None:
            out.line(f"{chart}: the chart")


def _folder(work: Path | None, stack: ExitStack) -> Path:
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        return work
    temporary = tempfile.TemporaryDirectory(prefix="largeds-bench-", ignore_cleanup_errors=True)
    return Path(stack.enter_context(temporary))


def _answer(question: Question, work: Work, model: str, rounds: int, note: Note) -> Answer:
    from largeds_native.cli.bench.candidates import Answer, answered

    with ExitStack() as stack:
        if question is Question.pack:
            from largeds_native.cli.bench import packing

            return answered("pack", packing.TITLE, packing.candidates(work), rounds, note)
        if question is Question.load:
            from largeds_native.cli.bench import loading

            return answered("load", loading.TITLE, loading.candidates(work, stack), rounds, note)
        from largeds_native.cli.bench import training

        if find_spec("torchvision") is None:
            words = "not installed (pip install 'largeds-native[demo]'), so there is no model to train"
            return Answer("train", "train", [], {"torchvision": words})
        candidates = training.candidates(work, model, stack)
        return answered("train", training.title(model), candidates, rounds, note)


def _show(answer: Answer, out: Any) -> None:
    from largeds_native._internal.measure import table

    if answer.results:
        out.show(table(answer.title, answer.results, relative_to="largeds_native"))
    for name, why in answer.missing.items():
        out.line(f"not measured: {name}: {why}")


def _content(answers: Sequence[Answer], facts: dict[str, str], work: Work, source: Path | None) -> dict[str, Any]:
    from largeds_native._internal.measure import as_json

    questions = []
    for answer in answers:
        content = as_json(answer.title, answer.results, {})
        del content["machine"]
        questions.append({"name": answer.name} | content | {"missing": answer.missing})
    where = str(source) if source else "the built-in corpus"
    return {"source": where, "images": work.count, "threads": work.threads, "machine": facts, "questions": questions}


def _versions() -> dict[str, str]:
    """Of the peers that are here."""
    from importlib.metadata import distributions

    peers = ("torchvision", "opencv", "nvidia-dali", "ffcv", "h5py")
    found = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"]}
    return {name: version for name, version in sorted(found.items()) if name.lower().startswith(peers)}
