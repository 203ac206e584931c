"""How long does each page of docs/recipes take on the demo's 1,000 photographs?

Each page's own code runs in a process and a folder of its own, after torch and largeds_native are imported, with 800
images in photos/train and 200 in photos/val. packing: in `lds.pack` and in shell blocks that pack. loops: over a Loader
or a DataLoader, with what the page does with the batches. The rest of the time is for further imports, models,
checkpoints, and the files that a page makes to have something to read.

python benchmarks/bench_recipes.py [classification ...] [--write-pages]
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from corpus import ROOT, jpegs
from harness import RESULTS, console
from rich.table import Table

from largeds_native._internal.measure import machine_facts, write_json
from largeds_native._internal.measure.contention import MUCH, Contention

CHECKOUT = Path(__file__).parent.parent
PAGES = sorted((CHECKOUT / "docs" / "recipes").glob("*.md"))
FOLDER = ROOT / "recipes"
IMAGES, VALIDATION = 1000, 5  # every fifth image is for validation
SENTENCE = re.compile(r"^On the demo's [\d,]+ images.*?\n\n", re.DOTALL | re.MULTILINE)


def make_photos(folder: Path) -> None:
    """photos/train and photos/val in a new folder, as links to the corpus."""
    shutil.rmtree(folder, ignore_errors=True)
    for number, file in enumerate(sorted(jpegs(IMAGES).glob("*/*.jpg"))):
        part = "train" if number % VALIDATION else "val"
        link = folder / "photos" / part / file.parent.name / file.name
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(file, link)


def timed(page: Path) -> dict[str, Any]:
    """Seconds and images of a page, or what it said where it failed."""
    folder = FOLDER / page.stem
    make_photos(folder)
    command = [sys.executable, str(Path(__file__).resolve()), "--in-this-folder", str(page)]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    shutil.rmtree(folder)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


# ---- in the process of a page ----------------------------------------------------------------------------------------
class Clock:
    """Seconds by kind, and images that came out of loaders. Kinds do not nest."""

    def __init__(self) -> None:
        self.seconds = {"packing": 0.0, "loops": 0.0}
        self.images = 0

    def call(self, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[kind] += time.perf_counter() - start

        return run

    def loop(self, begin: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
        """For __iter__ of a loader: the time from the first batch's request to the end, with the caller's work."""

        def iterate(loader: Any) -> Iterator[Any]:
            return self._batches(begin(loader))

        return iterate

    def _batches(self, batches: Iterator[Any]) -> Iterator[Any]:
        start = time.perf_counter()
        try:
            for batch in batches:
                self.images += samples(batch)
                yield batch
        finally:
            self.seconds["loops"] += time.perf_counter() - start
            if hasattr(batches, "close"):
                batches.close()


def samples(batch: Any) -> int:
    """Of a batch of any structure: the length of its first tensor."""
    while not hasattr(batch, "shape"):
        batch = next(iter(batch.values() if hasattr(batch, "values") else batch))
    return len(batch)


def run_here(page: Path) -> None:
    """Runs the page in the working folder, and prints its times as the last line."""
    from torch.utils.data import DataLoader

    import largeds_native as lds
    from tests.builders.documents import blocks, run_block

    clock = Clock()
    lds.pack = clock.call("packing", lds.pack)
    for loader in (lds.Loader, DataLoader):
        loader.__iter__ = clock.loop(loader.__iter__)  # type: ignore[method-assign]
    namespace = {"__name__": "__main__"}
    start = time.perf_counter()
    for number, (language, code) in enumerate(blocks(page), 1):
        packs = language == "bash" and "largeds pack" in code
        run = clock.call("packing", run_block) if packs else run_block
        run(language, code, f"{page.name}, block {number}", namespace)
    seconds = {"all": time.perf_counter() - start} | clock.seconds
    print("\n" + json.dumps({kind: round(value, 2) for kind, value in seconds.items()} | {"images": clock.images}))


# ---- the result ------------------------------------------------------------------------------------------------------
def rate(times: dict[str, Any]) -> float:
    return times["images"] / times["loops"] if times["images"] else 0.0


def table(results: dict[str, dict[str, Any]]) -> Table:
    out = Table(title=f"Recipes, on {IMAGES:,} JPEG files", title_justify="left")
    for column in ("", "seconds", "packing", "loops", "images", "images/s"):
        out.add_column(column, justify="right" if column else "left")
    for name, times in results.items():
        if "failed" in times:
            out.add_row(name, f"not timed: {times['failed']}")
            continue
        seconds = (f"{times[kind]:,.1f}" for kind in ("all", "packing", "loops"))
        out.add_row(name, *seconds, f"{times['images']:,}", f"{rate(times):,.0f}" if times["images"] else "")
    return out


def sentence(times: dict[str, Any], facts: dict[str, str]) -> str:
    """What a page says of itself."""
    processor = facts["processor"].replace(" (", " with ").rstrip(")")
    parts = [f"packing {_seconds(times['packing'])}"] if times["packing"] else []
    if times["images"]:
        parts.append(f"its loops over loaders {_seconds(times['loops'])} ({rate(times):,.0f} images/s)")
    said = f"On the demo's {IMAGES:,} images ({facts['threads']} cores, {processor}) this page takes "
    said += f"{_seconds(times['all'])}: {', '.join(parts)}. `benchmarks/bench_recipes.py` times it."
    return textwrap.fill(said, 120, break_on_hyphens=False, break_long_words=False)


def _seconds(value: float) -> str:
    return f"{value:,.1f} s" if value < 10 else f"{value:,.0f} s"


def with_sentence(page: str, said: str) -> str:
    """The text of a page with the sentence before the list at its end, in place of an older one."""
    return SENTENCE.sub("", page).replace("\nWhat to know:\n", f"\n{said}\n\nWhat to know:\n")


def main(pages: list[Path], write_pages: bool) -> None:
    results, contention = {}, Contention()
    for page in pages:
        console.print(f"{page.stem} ...")
        results[page.stem] = timed(page)
    facts = machine_facts()
    console.print(table(results), ", ".join(facts.values()))
    others = contention.share()
    if others is not None and others > MUCH:
        console.print(
            f"Other programs took {others:.0%} of the processors meanwhile, so nothing is written: measure again on a "
            "quiet machine."
        )
        return
    content: dict[str, Any] = {
        "question": "How long does each recipe take?",
        "unit": "seconds",
        "machine": facts,
        "results": results,
    }
    content["others_share"] = others
    if pages == PAGES:
        write_json(RESULTS / "recipes.json", content | {"date": datetime.date.today().isoformat()})
    for page in pages if write_pages else ():
        if "failed" not in results[page.stem]:
            page.write_text(with_sentence(page.read_text(), sentence(results[page.stem], facts)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="recipe", help="only these; the result is not written")
    parser.add_argument("--write-pages", action="store_true", help="write each page's times into it")
    parser.add_argument("--in-this-folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_this_folder:
        run_here(options.in_this_folder)
    else:
        known = [page.stem for page in PAGES]
        if unknown := set(options.names) - set(known):
            parser.error(f"{', '.join(sorted(unknown))}: expected some of {', '.join(known)}")
        main([page for page in PAGES if page.stem in (options.names or [page.stem])], options.write_pages)
