"""`largeds pull`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from largeds_native.cli.output import emit_json, size
from largeds_native.cli.values import JSON, QUIET


def pull(
    url: Annotated[str, typer.Argument(metavar="URL", help="The store to copy: s3://bucket/train.lds")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The new folder of the copy.")],
    quiet: QUIET = False,
    json: JSON = False,
) -> None:
    """Copy a store from object storage. The same command continues a pull that was interrupted.

    \b
    Examples:
      largeds pull s3://bucket/train.lds train.lds

    Each shard is compared with its hashes before it gets its name. Shards that are there and whole are not fetched
    again, and damaged ones are replaced.
    """
    from largeds_native._internal.urls import without_credentials
    from largeds_native.store import pull as pull_store

    store = pull_store(url, folder, progress=not (quiet or json))
    if json:
        emit_json({"url": without_credentials(url), "folder": str(folder), "images": len(store)})
    elif not quiet:
        print(f"{folder}: {len(store):,} images, {size(store.nbytes)}")
