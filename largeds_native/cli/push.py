"""`largeds push`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from largeds_native.cli.output import emit_json
from largeds_native.cli.stores import place
from largeds_native.cli.values import JSON, QUIET


def push(
    store: Annotated[Path, typer.Argument(parser=place, metavar="STORE", help="The store to copy.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="Where to: s3://bucket/train.lds")],
    quiet: QUIET = False,
    json: JSON = False,
) -> None:
    """Copy a store to object storage. The same command continues a push that was interrupted.

    \b
    Examples:
      largeds push train.lds s3://bucket/train.lds

    Each shard is compared with its hashes before it is sent. The manifest comes last. What is there already with the
    same bytes is not sent again; another store at the URL is an error.
    """
    from largeds_native._internal.urls import without_credentials
    from largeds_native.store import push as push_store

    push_store(store, url, progress=not (quiet or json))
    if json:
        emit_json({"store": str(store), "url": without_credentials(url)})
    elif not quiet:
        print(f"{without_credentials(url)}: pushed")
