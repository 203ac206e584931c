"""How fast are decoding and resizing, compared with libjpeg-turbo alone and with peers?

Files in the page cache, shorter side 256, centre crop 224, bilinear, to uint8. largeds_native reads, decodes, resizes,
crops and writes to a memory-mapped .npy file. The reference is libjpeg-turbo with its own Huffman decoder, from memory,
with the same number of threads, discarding its rows: for the whole image, for the part that the crop needs, and for
that part with DCT scaling. It is not a limit, as largeds_native has a faster Huffman decoder. The PSNR of
decode="scaled" against "exact" is printed for both corpora.

python benchmarks/bench_decode.py [--rounds 5] [--threads N] [--images 1000] [--photos 32] [--only imagenet|photos]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from corpus import ROOT, files, jpegs, photos
from decode_peers import CROP, available
from harness import console, options_parser, report

from largeds_native import _C, decode_batch
from largeds_native._internal.measure import Contender, Measured, processor_seconds, ratio, take_turns

WHOLE, PART, PART_SCALED = (f"libjpeg-turbo, {what}" for what in ("whole image", "needed part", "needed part, scaled"))
# (ours, compared with, smallest ratio of the speeds); "peer" is the fastest peer
TARGETS = {
    "imagenet": [("exact", WHOLE, 1.0), ("exact", "peer", 1.9), ("exact", "exact, 1 thread", 1.9)],
    "photos": [
        ("exact", PART, 0.9),
        ("scaled", PART_SCALED, 0.9),
        ("exact", "exact, 1 thread", 1.9),
    ],
}


def core(paths: list[str], threads: int) -> dict[str, Callable[[], int]]:
    """largeds_native, as used by the packer, and libjpeg-turbo."""
    data: list[bytes | str] = [Path(path).read_bytes() for path in paths]
    exact, scaled = _C.RowSpec(), _C.RowSpec(scaled=True)
    out = np.lib.format.open_memmap(ROOT / "decoded.npy", "w+", np.uint8, (len(paths), exact.row_bytes))

    def counted(results: list[tuple[str, str, int, int]]) -> int:
        assert all(status == "ok" for status, *_ in results), results
        return len(results)

    names: list[bytes | str] = list(paths)
    return {
        WHOLE: lambda: counted(_C.decode_only(data, out, exact, threads, True)),
        PART: lambda: counted(_C.decode_only(data, out, exact, threads, False)),
        PART_SCALED: lambda: counted(_C.decode_only(data, out, scaled, threads, False)),
        "exact": lambda: counted(_C.decode_to_rows(names, out, exact, threads)),
        "scaled": lambda: counted(_C.decode_to_rows(names, out, scaled, threads)),
        "exact, 1 thread": lambda: counted(_C.decode_to_rows(names, out, exact, 1)),
        "decode_batch": lambda: len(decode_batch(paths, threads=threads)),
    }


def verdicts(name: str, results: Sequence[Measured]) -> list[dict[str, object]]:
    """Every target with the measured ratio."""
    peers = sorted((m for m in results if m.role == "peer"), key=lambda m: -m.median)
    out: list[dict[str, object]] = []
    for ours, to, least in TARGETS[name]:
        if to == "peer":
            to = peers[0].name
        reached = ratio(results, ours, to)
        console.print(
            f"{ours} / {to}: {reached:.2f}, target {least:g}: {'reached' if reached >= least else 'NOT reached'}"
        )
        out.append({"of": ours, "to": to, "at_least": least, "reached": round(reached, 3)})
    return out


def by_processor_time(contenders: Sequence[Contender], name: str, rounds: int) -> dict[str, float]:
    """Ratios of largeds_native to libjpeg-turbo by CPU time."""
    pairs = [(ours, to) for ours, to, _ in TARGETS[name] if "libjpeg" in to]
    asked = {run for pair in pairs for run in pair}
    taken = processor_seconds([one for one in contenders if one.name in asked], rounds)
    return {f"{ours} / {to}": round(taken[to] / taken[ours], 3) for ours, to in pairs}


def psnr(paths: list[str]) -> list[float]:
    """Sorted PSNRs of scaled against exact, in dB, without images that are too small for DCT scaling."""
    exact = decode_batch(paths).double()
    scaled = decode_batch(paths, decode="scaled").double()
    error = (exact - scaled).square().mean(dim=(1, 2, 3))
    return sorted(float(10 * torch.log10(255**2 / value)) for value in error if value > 0)


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--images", type=int, default=1000, help="ImageNet-like files (1000)")
    parser.add_argument("--photos", type=int, default=32, help="12-megapixel files (32)")
    parser.add_argument("--only", choices=list(TARGETS), help="one of the two corpora")
    options = parser.parse_args()
    torch.set_num_threads(1)  # peers run one image a thread
    for name in [options.only] if options.only else list(TARGETS):
        paths = files(jpegs(options.images) if name == "imagenet" else photos(options.photos))
        own = core(paths, options.threads)
        contenders = [
            Contender(label, run, "reference" if "libjpeg" in label else "ours") for label, run in own.items()
        ]
        contenders += [Contender(label, run) for label, run in available(paths, options.threads, console.print).items()]
        results = take_turns(contenders, rounds=options.rounds)
        alone = by_processor_time(contenders, name, options.rounds)
        console.print(f"by processor time: {alone}")
        (ROOT / "decoded.npy").unlink()
        values = psnr(paths)
        measured = {
            "images": len(values),
            "least": round(values[0], 2) if values else None,
            "median": round(values[len(values) // 2], 2) if values else None,
        }
        extra: dict[str, object] = {
            "libraries": _C.codec_versions(),
            "psnr_scaled_db": measured,
            "targets": verdicts(name, results),
        }
        extra["by_processor_time"] = alone
        report(
            f"decode-{name}", f"Decode to {CROP}x{CROP}: {name}", results, relative_to=TARGETS[name][0][1], extra=extra
        )
        console.print(f"PSNR of scaled against exact, in dB, of images that libjpeg scales: {measured}\n")


if __name__ == "__main__":
    main()
