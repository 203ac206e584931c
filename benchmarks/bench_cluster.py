"""What does packing by several processes cost: parts of a job array, tasks of Ray, images from object storage?

JPEG files in the page cache, packed to 224. Processes and Ray's workers are started before the time is taken, as they
live for hours in a real pack.
- one process with as many threads as there are parts; the parts, each a process with one thread (at least 0.95)
- tasks of Ray, of one thread each, on a cluster of this machine (at least 0.90)
- from moto's S3 server, which has a processor of its own, while all else runs on the others: beside plain GETs of the
  same objects, 48 at a time, which is what the server delivers (at least 0.8 of the slower of the server and the disk)
- the time of `plan` for a million files, with --million, and of `commit` for 5,000 shards

python benchmarks/bench_cluster.py [--rounds 5] [--parts 4] [--images 4000] [--million]
"""

from __future__ import annotations

import http.client
import logging
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
from bench_million import small_pngs
from corpus import ROOT, files, jpegs
from harness import console, options_parser, report

import largeds_native as lds
from largeds_native._internal.measure import Contender, ratio, take_turns
from largeds_native._internal.objects import ObjectFolder
from largeds_native.packing.local_run import pack_here
from tests.builders.s3 import s3_server

OUT = ROOT / "cluster"
FROM_S3 = 2000  # images, as the server is slow
SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request"}


def fresh() -> None:
    shutil.rmtree(OUT, ignore_errors=True)


def many(images: int) -> Path:
    """A tree of hard links to the corpus."""
    corpus = jpegs()
    tree = ROOT / f"cluster-{images}"
    if not (tree / "made").exists():
        paths = files(corpus)
        for i in range(images):
            link = tree / "tree" / f"c{i % 10}" / f"{i:06d}.jpg"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.hardlink_to(paths[i % len(paths)])
        (tree / "made").touch()
    return tree / "tree"


def by_parts(tree: Path, parts: int, shard_bytes: int) -> int:
    """Forked, so that no time of imports is counted."""

    def work(part: int) -> None:
        plan = lds.packing.plan(tree, OUT, threads=1, shard_bytes=shard_bytes)
        pack_here(plan, (part, parts), progress=False)

    fork: Any = get_context("fork")
    workers = [fork.Process(target=work, args=(part + 1,)) for part in range(parts)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    with lds.packing.commit(lds.packing.plan(tree, OUT, shard_bytes=shard_bytes)) as store:
        return len(store)


def of_pack(source: Any, **options: Any) -> Callable[[], int]:
    def run() -> int:
        with lds.pack(source, OUT, progress=False, **options) as store:
            return len(store)

    return run


class Planned:
    """A pack whose source is listed before the time is taken, as moto needs 0.3 ms an object for that."""

    def __init__(self, source: Any, **options: Any) -> None:
        self._source, self._options = source, options

    def plan(self) -> None:
        fresh()
        self._plan = lds.packing.plan(self._source, OUT, **self._options)

    def pack(self) -> int:
        pack_here(self._plan, None, progress=False)
        with lds.packing.commit(self._plan) as store:
            return len(store)


def processes(tree: Path, options: Any) -> None:
    import ray

    rows = 3 * 224 * 224
    shard_bytes = rows * max(1, options.images // (8 * options.parts))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=options.parts, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    one = f"one process, {options.parts} threads"
    results = take_turns(
        [
            Contender(one, of_pack(tree, threads=options.parts, shard_bytes=shard_bytes), "reference", before=fresh),
            Contender(
                f"{options.parts} parts", lambda: by_parts(tree, options.parts, shard_bytes), "ours", before=fresh
            ),
            Contender("Ray", of_pack(tree, threads=1, engine="ray", shard_bytes=shard_bytes), "ours", before=fresh),
        ],
        rounds=options.rounds,
    )
    ray.shutdown()
    report(
        "cluster_parts",
        f"Pack {options.images:,} JPEGs by several processes",
        results,
        relative_to=one,
        of=f"{options.parts} parts",
        target=0.95,
        extra={"ray_to_one_process": round(ratio(results, "Ray", one), 3)},
    )
    console.print(f"Ray: {ratio(results, 'Ray', one):.2f} of one process (target: at least 0.9)\n")


def plain_gets(endpoint: str, keys: list[str]) -> Callable[[], int]:
    target = urlsplit(endpoint)

    def get(chosen: list[str]) -> int:
        connection = http.client.HTTPConnection(target.hostname or "", target.port)
        for key in chosen:
            connection.request("GET", f"/bucket/{quote(key)}", headers=SIGNED)
            connection.getresponse().read()
        connection.close()
        return len(chosen)

    def run() -> int:
        with ThreadPoolExecutor(48) as pool:
            return sum(pool.map(get, [keys[i::48] for i in range(48)]))

    return run


def from_object_storage(options: Any) -> None:
    tree = many(FROM_S3)
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, processors[:1])
    with s3_server() as endpoint:
        os.sched_setaffinity(0, processors[1:] or processors)
        threads = min(options.threads, len(os.sched_getaffinity(0)))
        os.environ |= {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1"}
        os.environ["AWS_ENDPOINT_URL"] = endpoint
        from s3fs import S3FileSystem

        S3FileSystem(skip_instance_cache=True).mkdir("bucket")
        target, keys = ObjectFolder("s3://bucket"), []
        for path in files(tree):
            keys.append(str(Path(path).relative_to(tree)))
            target.write(keys[-1], Path(path))
        disk, bucket = Planned(tree, threads=threads), Planned("s3://bucket", threads=threads)
        results = take_turns(
            [
                Contender("plain GETs", plain_gets(endpoint, keys), "limit"),
                Contender("disk", disk.pack, "reference", before=disk.plan),
                Contender("s3://", bucket.pack, "ours", before=bucket.plan),
            ],
            rounds=options.rounds,
        )
    os.sched_setaffinity(0, processors)
    slower = min(("plain GETs", "disk"), key=lambda name: next(one.median for one in results if one.name == name))
    report(
        "cluster_s3",
        f"Pack {FROM_S3:,} JPEGs from object storage, 104 kB each",
        results,
        relative_to=slower,
        of="s3://",
        target=0.8,
    )


def planning(options: Any) -> None:
    facts: dict[str, Any] = {}
    if options.million:
        tree = small_pngs(1_000_000)
        fresh()
        start = time.perf_counter()
        plan = lds.packing.plan(tree, OUT)
        facts["plan_of_a_million_files_seconds"] = round(time.perf_counter() - start, 2)
        start = time.perf_counter()
        plan.part(0)
        facts["part_seconds"] = round(time.perf_counter() - start, 3)
    fresh()
    images = np.zeros((5000, 8, 8, 3), np.uint8)
    arguments: Any = {"resize": None, "crop": None, "shard_bytes": 1}
    plan = lds.packing.plan((images, np.arange(5000)), OUT, **arguments)
    pack_here(plan, None, progress=False)
    start = time.perf_counter()
    lds.packing.commit(plan).close()
    facts["commit_of_5000_shards_seconds"] = round(time.perf_counter() - start, 2)
    for name, value in facts.items():
        console.print(f"{name.replace('_', ' ')}: {value}")


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--parts", type=int, default=4, help="processes of one thread each (4)")
    parser.add_argument("--images", type=int, default=4000, help="ImageNet-like files (4000)")
    parser.add_argument("--million", action="store_true", help="also plan a million files, which are made first")
    options = parser.parse_args()
    planning(options)
    processes(many(options.images), options)
    from_object_storage(options)
    fresh()


if __name__ == "__main__":
    main()
