"""`largeds demo`: the whole way from images to a trained model, on real images, with all speeds measured."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from largeds_native.cli.guard import FAILURE
from largeds_native.cli.output import Narrator, emit_json
from largeds_native.cli.values import JSON, SEED, THREADS

GOAL = 0.97
NEXT = """\
cd {folder}
largeds view jpeg.lds --html     # writes jpeg.html: images, classes, failures
largeds doctor photos/train      # what limits an epoch on this machine; takes some minutes
largeds train jpeg.lds --model shufflenet_v2_x0_5 --epochs 5 --checkpoint-dir shufflenet --checkpoint-every 5
# Ctrl-C or kill it, and type the same command again: it goes on from its newest checkpoint
# the script of README.md runs here, too: on photos/train and photos/val"""


def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder for images and stores; the next run reuses it.")
    ] = Path("demo"),
    images: Annotated[int, typer.Option(min=300, help="Number of JPEG files for the speed table.")] = 1000,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of training on the digits.")] = 14,
    seed: SEED = 0,
    threads: THREADS = None,
    json: JSON = False,
) -> None:
    """Pack real images, train on them with a kill in the middle, export them, and compare with other libraries.

    \b
    Examples:
      largeds demo
      largeds demo /tmp/demo --images 2000 --json

    The images are in the packages scikit-learn and scikit-image: nothing is downloaded. It takes about three minutes on
    two cores, and leaves photographs for your own trials, in one folder per class: demo/photos/train and
    demo/photos/val.
    """
    from largeds_native._internal.machine import usable_threads
    from largeds_native._internal.measure import machine_facts
    from largeds_native.cli import demo_digits, demo_speed
    from largeds_native.profile.bench.image_set import ImageSet

    out = Narrator(json)
    start = time.perf_counter()
    threads = threads or usable_threads()
    folder.mkdir(parents=True, exist_ok=True)

    out.step("1. Real images, from installed Python packages")
    digits, photos = _corpora(folder, images, out)

    out.step("2. Pack: decode, resize and crop once")
    digit_store = _pack(digits, folder / "digits.lds", threads, out, resize=None, crop=None, mode="L")
    raw_store = _pack(photos, folder / "raw.lds", threads, out)

    out.step("3. The same photographs as JPEG rows, and two views of each")
    jpeg_store = _pack(photos, folder / "jpeg.lds", threads, out, codec="jpeg", resize=256, quality=90)
    _show_rows(raw_store, jpeg_store, out)

    out.step("4. Train a small CNN on the digits in a process that is killed in the middle, and go on in this one")
    run = folder / "digits-run"
    shutil.rmtree(run, ignore_errors=True)
    kwargs: dict[str, Any] = {"epochs": epochs, "seed": seed, "threads": threads}
    killed = max(demo_digits.SAVED_EVERY + 1, epochs * demo_digits.steps_an_epoch(digit_store) // 2)
    demo_digits.train_until_killed(folder / "digits.lds", run, killed, **kwargs)
    saved = max(path.name for path in run.glob("step-*"))
    out.line(f"killed (SIGKILL) at step {killed}; {run / saved} is its newest checkpoint")
    trained = demo_digits.train(digit_store, run, progress=not json, **kwargs)
    verdict = f"{trained.accuracy:.2%} of {trained.images} held-out images, after {trained.seconds:.1f} s more"
    out.line(f"validation accuracy: {verdict}; a run that nobody kills ends with the same weights")

    out.step("5. Export to HDF5, and read it back")
    equal = all(
        _export(store, folder / f"{name}.h5", out) for name, store in (("digits", digit_store), ("photos", raw_store))
    )

    out.step(f"6. Speed, with {threads} thread{'s' * (threads != 1)} or workers each (rounds in turn, medians)")
    packing, loading = demo_speed.measure_speed(ImageSet(photos, folder / "speed", raw_store, threads), out.progress)
    facts = machine_facts()
    seconds = time.perf_counter() - start
    if json:
        speeds = {"packing": _medians(packing), "loading": _medians(loading)}
        emit_json(
            {
                "accuracy": trained.accuracy,
                "training_seconds": trained.seconds,
                "killed_at_step": killed,
                "resumed_from": saved,
                "exports_equal": equal,
                "images_per_second": speeds,
                "machine": facts,
                "seconds": seconds,
            }
        )
    else:
        out.show(demo_speed.joined_table(packing, loading))
        out.line(", ".join(f"{name} {value}" for name, value in facts.items()))
        out.line(f"total time: {seconds:.0f} s")
        out.step("Go on with the photographs:")
        for line in NEXT.splitlines():
            out.line(line.format(folder=folder))
    if trained.accuracy < GOAL or not equal:
        raise typer.Exit(FAILURE)


def _corpora(folder: Path, images: int, out: Narrator) -> tuple[Path, Path]:
    from largeds_native._internal.corpus import digits_tree, jpeg_corpus

    digits = digits_tree(folder / "digits")
    photos = jpeg_corpus(folder / "photos" / "train", images)
    jpeg_corpus(folder / "photos" / "val", images // 10, seed=1)
    sizes = [path.stat().st_size for path in photos.rglob("*.jpg")]
    out.line(f"{digits}: 1,797 digits as PNG, one folder per class")
    out.line(
        f"{photos}: {len(sizes):,} photographs as JPEG, {sum(sizes) / len(sizes) / 1000:.0f} kB on average, one folder "
        f"per class; photos/val: {images // 10:,} more"
    )
    return digits, photos


def _pack(source: Path, store: Path, threads: int, out: Narrator, **options: Any) -> Any:
    """Packs even if the store exists, since the demo shows packing."""
    from largeds_native.opening import open_store
    from largeds_native.packing import pack
    from largeds_native.store.format.manifest import NAME as MANIFEST

    if (store / MANIFEST).exists():
        open_store(store).close()  # raises if it is not a store, so that nothing else is removed
        shutil.rmtree(store)
    packed = pack(source, store, threads=threads, progress=False, resume=False, **options)
    for line in str(packed.report).splitlines():
        out.line(line)
    return packed


def _show_rows(raw: Any, rows: Any, out: Narrator) -> None:
    """What a row of each kind takes, and a batch of two views."""
    from largeds_native.loading import Loader
    from largeds_native.transform import Augment

    sizes = [sum(file.stat().st_size for file in store.path.rglob("images.*")) / len(store) for store in (raw, rows)]
    out.line(f"a raw row takes {sizes[0] / 1000:,.0f} kB, a JPEG row {sizes[1] / 1000:,.0f} kB")
    views = [Augment(resized_crop=224, flip=0.5), Augment(resized_crop=96, scale=(0.05, 0.4), flip=0.5)]
    with Loader(rows, 64, shuffle=True, augment=views) as loader:
        images, _ = next(iter(loader))
    out.line(f"augment=[two views]: a batch is {' and '.join(str(tuple(view.shape)) for view in images)}")


def _export(store: Any, path: Path, out: Narrator) -> bool:
    """Exports the store; whether every image and label in the file equals that of the store."""
    import h5py
    import numpy as np

    path.unlink(missing_ok=True)
    start = time.perf_counter()
    store.to_hdf5(path)
    seconds = time.perf_counter() - start
    with h5py.File(path) as file:
        equal = np.array_equal(file["labels"][()], np.asarray(store["label"]))
        for low in range(0, len(store), 256):
            equal &= np.array_equal(file["data"][low : low + 256], store.images[low : low + 256])
    megabytes = path.stat().st_size / 1e6
    verdict = "reads back equal" if equal else "does NOT read back equal"
    out.line(f"{path}: {megabytes:,.1f} MB in {seconds:.2f} s, {verdict}")
    return bool(equal)


def _medians(results: Any) -> dict[str, float]:
    return {measured.name: round(measured.median, 1) for measured in results}
