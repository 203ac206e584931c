"""What lies below a URL of object storage."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from largeds_native._internal.object_file import state_of
from largeds_native._internal.objects import ObjectFolder
from largeds_native._internal.urls import scheme_of
from largeds_native.errors import MissingObjectError, StorageError

LISTINGS = 16  # at once
FEW = 16  # objects of a folder that are asked for one by one
OTHERS = (".gif", ".jfif", ".jpe", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg")  # not taken, but counted


class Listing:
    """The objects below a URL with some endings: names, sorted as a tree of folders is walked, and a digest of their
    sizes and tags. Each folder is listed by requests of its own, several at once, so that a million objects do not come
    one page after another."""

    def __init__(self, url: str, endings: Sequence[str]) -> None:
        root = ObjectFolder(url)
        self.url = url
        digest = hashlib.sha256()
        found: list[tuple[str, str, int, str]] = []  # folder, name, size, tag
        self.left_out: Counter[str] = Counter()

        def listed(prefix: str) -> list[tuple[str, int, str]]:
            below = root.join(prefix) if prefix else root
            return [(prefix + one.key, one.size, one.tag) for one in below.list()]

        top, self.folders = root.children()
        with ThreadPoolExecutor(LISTINGS) as pool:
            blocks = [[(one.key, one.size, one.tag) for one in top]]
            blocks += pool.map(listed, [f"{name}/" for name in self.folders])
        for key, size, tag in (one for block in blocks for one in block):
            folder, _, name = key.rpartition("/")
            ending = os.path.splitext(name)[1].lower()
            if ending in endings:
                found.append((folder, name, size, tag))
            elif ending in OTHERS:
                self.left_out[ending] += 1
        found.sort()
        self.names = [f"{folder}/{name}" if folder else name for folder, name, _, _ in found]
        for name, (_, _, size, tag) in zip(self.names, found, strict=True):
            digest.update(f"{name!r} {size} {tag}\n".encode("utf-8", "surrogateescape"))
        self.state = digest.hexdigest()


def states_of(urls: Iterable[str]) -> str:
    """A digest of the sizes and tags of objects, by listings of their folders; where these have few of them, or can't
    be listed (http, or without the permission), by a request for each."""
    digest = hashlib.sha256()
    for folder, group in itertools.groupby(sorted(set(urls), key=_folder_and_name), _folder):
        names = list(group)
        states = _listed(folder, names) if len(names) > FEW and scheme_of(folder) not in ("http", "https") else None
        for url, state in zip(names, states or _asked(names), strict=True):
            digest.update(f"{url!r} {state}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _folder(url: str) -> str:
    return url.rpartition("/")[0]


def _folder_and_name(url: str) -> tuple[str, str]:
    return _folder(url), url


def _listed(folder: str, urls: list[str]) -> list[tuple[int, str] | None] | None:
    """None where the folder may not be listed."""
    try:
        objects, _ = ObjectFolder(folder).children()
    except MissingObjectError:
        return [None] * len(urls)
    except StorageError as error:
        if error.errno == errno.EACCES:
            return None
        raise
    found = {f"{folder}/{one.key}": (one.size, one.tag) for one in objects}
    return [found.get(url) for url in urls]


def _asked(urls: list[str]) -> list[tuple[int, str] | None]:
    def ask(url: str) -> tuple[int, str] | None:
        try:
            state = state_of(url)
        except MissingObjectError:
            return None
        return state.size, state.tag

    with ThreadPoolExecutor(LISTINGS) as pool:
        return list(pool.map(ask, urls))
