"""How fast is training from object storage, against a local copy and the server's own throughput?

moto's S3 server on this machine, raw rows of 3 x 64 x 64 in shards of 32 MiB. Its limit is what plain HTTP gets from
it: all objects, four at a time, thrown away. On two processors, the server takes most of one for that, so what loading
does beside fetching (hashing, writing, making batches) is taken from the server. `--link 4gbit` gives both a network of
that rate, as tc limits it in a namespace of its own, so that not the processors are the limit. Then, with uint8 batches
of 256:
- a first epoch, which fetches all; an epoch with a full cache, in turns with the same epoch on a local copy (0.97)
- epochs with a cache of a quarter of the store, order="block", block="shard": how often a shard is fetched in an epoch
  (at most 1.1 times), and bytes a second against the limit (0.9)
- the requests of open()
- 30 million rows in 5,000 shards, of which only the manifest exists: time and memory of opening, of the order, and of
  the decisions of the cache over an epoch

python benchmarks/bench_remote.py [--rounds 5] [--shards 64] [--link 4gbit]
"""

from __future__ import annotations

import http.client
import os
import resource
import shlex
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from harness import console, options_parser, report

import largeds_native as lds
from largeds_native._internal.measure import Contender, Measured, ratio, take_turns
from largeds_native._internal.objects import ObjectFolder
from largeds_native.loading.fetching import ShardNumbers, batches_ahead, remote_parts
from largeds_native.loading.look_ahead import LookAhead
from largeds_native.store import RemoteStore
from largeds_native.store.format.manifest import ShardEntry
from largeds_native.store.remote.shard_files import row_files
from tests.builders.s3 import fault_proxy, s3_server

SIDE, BATCH, SHARD_BYTES = 64, 256, 32 << 20
# moto looks for the service of a request here, and does not check the signature
SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request"}
BY_SHARD: dict[str, Any] = {"order": "block", "block": "shard"}


def make_store(folder: Path, shards: int) -> Any:
    rows = SHARD_BYTES // (3 * SIDE * SIDE) * shards
    images = np.random.default_rng(0).integers(0, 256, (rows, 3, SIDE, SIDE), np.uint8)
    source = (images, np.arange(rows))
    return lds.pack(source, folder / "a.lds", resize=None, crop=None, shard_bytes=SHARD_BYTES, progress=False)


def server_limit(endpoint: str, store: Any, bucket: str) -> float:
    """Bytes a second of plain GETs of the images of all shards, four at a time."""
    target = urlsplit(endpoint)

    def get(shard: str) -> int:
        connection = http.client.HTTPConnection(target.hostname or "", target.port)
        connection.request("GET", f"/{bucket}/a.lds/{shard}/images.npy", headers=SIGNED)
        answer, total = connection.getresponse(), 0
        assert answer.status == 200, answer.read()
        while chunk := answer.read(1 << 20):
            total += len(chunk)
        connection.close()
        return total

    started = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        total = sum(pool.map(get, [shard.path.name for shard in store.shards]))
    return total / (time.perf_counter() - started)


def epoch(loader: Any, times: int = 1) -> int:
    return sum(len(images) for _ in range(times) for images, *_ in loader)


def loader_of(store: Any, **options: Any) -> Any:
    return lds.Loader(store, BATCH, dtype=torch.uint8, **(BY_SHARD | options))


def quarter(url: str, work: Path, total: int, epochs: int, shards: int) -> dict[str, float]:
    """Epochs with a cache of a quarter of the store, after one that fills it."""
    loader = loader_of(lds.open(url, cache=work / "quarter", cache_bytes=total // 4))
    epoch(loader)
    fetched = shards_fetched = 0
    started = time.perf_counter()
    for _ in range(epochs):
        epoch(loader)
        fetched += loader.stats()["fetched_bytes"]
        shards_fetched += loader.stats()["fetched_shards"]
    seconds = time.perf_counter() - started
    return {"fetches": shards_fetched / epochs / shards, "bytes_per_second": fetched / seconds}


def memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def thirty_million(store: Any, work: Path) -> dict[str, Any]:
    """A manifest of 5,000 shards of 6,000 rows each, with a cache of a quarter: nothing is fetched."""
    entries = tuple(ShardEntry(f"shard-{i:05d}", 6000, "0" * 32) for i in range(5000))
    manifest = replace(store._manifest, shards=entries, rows=30_000_000)
    before, started = memory(), time.perf_counter()
    size = sum(row_files(manifest, entries[0]).values())
    remote = RemoteStore(ObjectFolder("s3://bucket/huge"), manifest, str(work / "huge"), 1250 * size)
    opened = time.perf_counter() - started
    started = time.perf_counter()
    loader = loader_of(remote)
    order = time.perf_counter() - started
    started, batches = time.perf_counter(), 0
    numbers = ShardNumbers(remote_parts(remote))
    ahead = LookAhead((numbers.of(rows) for rows in batches_ahead(loader.plan, 0, loader._cursor.at[1])), numbers.room)
    while batches < len(loader):
        while ahead.grow(lambda: False):
            pass
        assert ahead.wanted()
        batches += 500
        ahead.advance(batches)
    return {
        "open_seconds": round(opened, 2),
        "order_seconds": round(order, 2),
        "decisions_seconds_an_epoch": round(time.perf_counter() - started, 1),
        "batches": len(loader),
        "megabytes": memory() - before,
    }


def over_link(rate: str) -> None:
    """Runs this program again, where the loopback device has this rate."""
    arguments = [word for word in sys.argv if word != "--link" and word != rate and word != f"--link={rate}"]
    limited = f"ip link set lo up && tc qdisc add dev lo root tbf rate {shlex.quote(rate)} burst 2mb latency 100ms"
    command = f"{limited} && LINK={shlex.quote(rate)} exec {shlex.join([sys.executable, *arguments])}"
    os.execvp("unshare", ["unshare", "--map-root-user", "--net", "sh", "-c", command])


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--link", metavar="RATE", help="of the network between server and client, such as 4gbit")
    options = parser.parse_args()
    if options.link:
        over_link(options.link)
    work = Path(tempfile.mkdtemp(prefix="bench-remote-"))
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ.update(keys)
    try:
        with s3_server() as endpoint:
            os.environ["AWS_ENDPOINT_URL"] = endpoint
            measure(endpoint, work, options)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def measure(endpoint: str, work: Path, options: Any) -> None:
    from s3fs import S3FileSystem

    S3FileSystem(skip_instance_cache=True).mkdir("bench-bucket")
    url = "s3://bench-bucket/a.lds"
    local = make_store(work, options.shards)
    shards = len(local.shards)
    total = sum(file.stat().st_size for shard in local.shards for file in shard.path.iterdir())
    started = time.perf_counter()
    lds.push(local, url, progress=False)
    pushed = time.perf_counter() - started
    with fault_proxy(endpoint) as (proxy, faults):
        os.environ["AWS_ENDPOINT_URL"] = proxy
        lds.open(url, cache=work / "requests")
        requests = len(faults.requests)
        os.environ["AWS_ENDPOINT_URL"] = endpoint
    limits, quarters, firsts = [], [], []
    for number in range(options.rounds):
        limits.append(server_limit(endpoint, local, "bench-bucket"))
        started = time.perf_counter()
        epoch(loader_of(lds.open(url, cache=work / f"first-{number}")))
        firsts.append(total / (time.perf_counter() - started))
        shutil.rmtree(work / f"first-{number}")
        quarters.append(quarter(url, work, total, 2, shards))
    copy, full = loader_of(local), loader_of(lds.open(url, cache=work / "full"))
    epoch(full)
    runs = [
        Contender("local copy", lambda: epoch(copy, 8), "reference"),
        Contender("full cache", lambda: epoch(full, 8), "ours"),
    ]
    results: list[Measured] = take_turns(runs, rounds=max(options.rounds * 3, 9), warmup=2)
    limit, rate = np.median(limits), np.median([one["bytes_per_second"] for one in quarters])
    extra = {
        "push_megabytes_per_second": round(total / pushed / 1e6),
        "open_requests": requests,
        "link": os.environ.get("LINK", "none"),
        "server_megabytes_per_second": round(limit / 1e6),
        "first_epoch_megabytes_per_second": round(np.median(firsts) / 1e6),
        "quarter_megabytes_per_second": round(rate / 1e6),
        "quarter_to_server": round(rate / limit, 3),
        "fetches_of_a_shard_an_epoch": round(float(np.median([one["fetches"] for one in quarters])), 3),
        "full_cache_to_local": round(ratio(results, "full cache", "local copy"), 3),
        "thirty_million": thirty_million(local, work),
    }
    report(
        "remote_link" if "LINK" in os.environ else "remote",
        f"An epoch of {len(local):,} rows in {shards} shards, from moto's S3 server", results,
        relative_to="local copy", of="full cache", target=0.97, extra=extra,
    )  # fmt: skip
    for name, value in extra.items():
        console.print(f"{name}: {value}")


if __name__ == "__main__":
    main()
