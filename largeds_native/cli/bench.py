"""`largeds bench`"""

from __future__ import annotations

import tempfile
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from largeds_native.cli import completion
from largeds_native.cli.output import Narrator, emit_json
from largeds_native.cli.pictures import check_picture_path, write_picture
from largeds_native.cli.stores import local
from largeds_native.cli.values import JSON, THREADS
from largeds_native.profile.bench.stage import Rows, Stage

if TYPE_CHECKING:
    from largeds_native.profile.bench.candidates import StageResult


def bench(
    source: Annotated[
        Path | None,
        typer.Argument(
            parser=local,
            metavar="SOURCE",
            help="A folder of images, flat or with one folder per class. Default: built-in images.",
        ),
    ] = None,
    only: Annotated[list[Stage] | None, typer.Option(help="Only this stage; can be repeated. Default: all.")] = None,
    rows: Annotated[
        Rows, typer.Option(help="jpeg: load resized crops from JPEG rows, instead of raw rows; for --only load.")
    ] = Rows.raw,
    images: Annotated[
        int, typer.Option("--images", "-n", min=2, help="Largest number of images, evenly spaced over SOURCE.")
    ] = 500,
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds, after one for warm-up.")] = 3,
    model: Annotated[
        str, typer.Option(help="The torchvision classifier for the stage train.", autocompletion=completion.models)
    ] = "shufflenet_v2_x0_5",
    chart: Annotated[Path | None, typer.Option(help="Also draw a chart to this .png or .svg file.")] = None,
    work: Annotated[
        Path | None,
        typer.Option(help="Folder for images and stores, which is kept. Default: a temporary one in $TMPDIR."),
    ] = None,
    threads: THREADS = None,
    json: JSON = False,
) -> None:
    """Measure packing, loading and training: largeds_native, other libraries, and a limit or a reference.

    \b
    Examples:
      largeds bench
      largeds bench photos/train --only load
      largeds bench photos/train --only load --rows jpeg
      largeds bench photos/train -n 2000 --rounds 5 --model resnet18
      largeds bench --chart bench.svg --json > bench.json

    All contenders read the same files with the same number of threads or workers, and make images of 3 x 224 x 224
    (shorter side 256, centre crop). The other libraries are torchvision, torchcodec, SPDL, OpenCV, DALI, FFCV, LitData,
    Mosaic Streaming, WebDataset and HDF5 (h5py); those that are not installed are listed, with what to type to get
    them. A limit is the part of the work that nobody can leave out, done by the simplest code: memset of the batches
    for load, the model alone for train. Who is close to it may be faster in some rounds; the spreads tell. With --rows
    jpeg, rows are JPEG files of a shorter side of 256 at quality 90, and images are resized crops of 224 with flips.
    The reference for pack and for JPEG rows, libjpeg-turbo decoding whole images, is no limit. Rates are medians over
    the rounds, ± half the distance between the slowest and the fastest. It takes some minutes.
    """
    from largeds_native._internal.machine import usable_threads
    from largeds_native._internal.measure.contention import Contention, warning
    from largeds_native.profile.bench import chart as charts
    from largeds_native.profile.bench.image_set import prepare_images
    from largeds_native.profile.bench.run import as_content, run_stage

    if chart is not None:
        check_picture_path(chart, charts.SUFFIXES)
        charts.check_installed()
    if rows is Rows.jpeg and only != [Stage.load]:
        raise typer.BadParameter("--rows jpeg: expected --only load, which alone measures JPEG rows")
    out, start, contention = Narrator(json), time.perf_counter(), Contention()
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # peers warn about their own internals
        folder = _work_folder(work, stack)
        prepared = prepare_images(source, folder, images, threads or usable_threads(), out.progress, rows.value)
        stack.enter_context(prepared.store)
        where = source or "the built-in corpus"
        out.line(f"{prepared.count:,} images of {where}, with {prepared.threads} threads or workers")
        results = []
        for stage in (stage for stage in Stage if stage in (only or Stage)):
            results.append(run_stage(stage, prepared, model, rounds, out.progress))
            _show(results[-1], out)
    seconds = round(time.perf_counter() - start, 1)
    content = as_content(results, prepared, source) | {
        "rounds": rounds,
        "seconds": seconds,
        "others_share": contention.share(),
    }
    if chart is not None:
        write_picture(chart, charts.draw_chart(content["questions"], _caption(content), chart.suffix.lower()[1:]))
    if json:
        emit_json(content)
    else:
        out.line(", ".join(f"{name} {value}" for name, value in content["machine"].items()))
        if disturbed := warning(content["others_share"]):
            out.line(disturbed)
        if chart is not None:
            out.line(f"{chart}: the chart")


def _work_folder(work: Path | None, stack: ExitStack) -> Path:
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        return work
    temporary = tempfile.TemporaryDirectory(prefix="largeds-bench-", ignore_cleanup_errors=True)
    return Path(stack.enter_context(temporary))


def _show(result: StageResult, out: Narrator) -> None:
    from largeds_native._internal.measure import table

    if result.results:
        out.show(table(result.title, result.results, relative_to="largeds_native"))
    for name, why in result.missing.items():
        out.line(f"not measured: {name}: {why}")


def _caption(content: dict[str, Any]) -> str:
    rounds = content["rounds"]
    return (
        f"images/s. {content['machine']['processor']}, {content['threads']} threads or workers each; "
        f"{content['images']:,} images of {Path(content['source']).name}; "
        f"medians and extremes of {rounds} round{'s' * (rounds > 1)}"
    )
