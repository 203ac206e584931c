"""Images in the folders of a bucket."""

from __future__ import annotations

import os

from largeds_native._internal.urls import join, without_credentials
from largeds_native.errors import PackError
from largeds_native.sources.base import Indices, SourceBatch
from largeds_native.sources.folder_source import EXTENSIONS, FolderSource, expected_images
from largeds_native.sources.listing import Listing


class UrlFolderSource(FolderSource):
    """By the same rules as of a folder."""

    is_remote = True

    def __init__(self, url: str) -> None:
        self._url = url
        shown = without_credentials(url).rstrip("/")
        listing = Listing(url, EXTENSIONS)
        self._state, self._top = listing.state, shown
        flat = [name for name in listing.names if "/" not in name]
        found: dict[str, list[str]] = {name: [] for name in listing.folders}
        for name in listing.names:
            if "/" in name:
                found[name.partition("/")[0]].append(name)
        blocks = {name: _block(names) for name, names in found.items()}
        self._take_classes(blocks, _block(flat), listing.left_out)
        self.root, self.description, self.walked = shown, f"folder {shown}", shown
        if not self._paths:
            raise PackError(f"{shown} has no image: {expected_images(listing.left_out)}")

    def take(self, indices: Indices) -> SourceBatch:
        batch = super().take(indices)
        batch.items = [join(self._url, name) for name in batch.names]
        return batch

    def paths(self, indices: Indices) -> list[tuple[str, str]]:
        return []  # of files on this machine

    def files_state(self) -> str:
        """Of the keys, sizes and etags that the listing had."""
        return self._state


def _block(names: list[str]) -> bytes:
    return os.fsencode("".join(f"{name}\0" for name in names))
