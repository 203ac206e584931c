"""Patterns of paths and URLs: train-*.tar, and train-{0000..0146}.tar as WebDataset writes them."""

from __future__ import annotations

import glob
import itertools
import math
import os
import re

from largeds_native._internal.objects import ObjectFolder
from largeds_native._internal.urls import is_url, join, local_path, scheme_of, split_query, without_credentials
from largeds_native.errors import ArgumentError

MOST = 1_000_000  # paths of one pattern
_PATTERN = re.compile(r"[*?\[{]")
_BRACES = re.compile(r"\{(\d{1,18}\.\.\d{1,18}|[^{},]*(?:,[^{},]*)+)\}")


def expand(path: str | os.PathLike[str]) -> list[str]:
    """The paths or URLs that a pattern stands for: of {0000..0146} and {a,b} all of them, in their order; of *, and in
    paths also ? and [abc], those that exist, sorted by name. What is no pattern stands for itself, and so does the name
    of a file that exists.

    Raises ArgumentError for a pattern with *, ? or [abc] that nothing matches.
    """
    text = str(path) if is_url(path) else local_path(path)
    if not _PATTERN.search(text) or (not is_url(text) and os.path.lexists(text)):
        return [text]
    if not is_url(text):
        return [found for one in _of_braces(text) for found in _files(one)]
    base, _ = split_query(text)
    return [found for one in _of_braces(base) for found in _objects(one + text[len(base) :])]


def _of_braces(text: str) -> list[str]:
    parts = _BRACES.split(text)  # texts, and between them what was in braces
    if math.prod(map(_count, parts[1::2])) > MOST:
        raise ArgumentError(f"{without_credentials(text)}: expected a pattern that stands for at most {MOST:,} paths")
    choices = [_choices(part) if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def _count(inside: str) -> int:
    if "," in inside:
        return inside.count(",") + 1
    first, last = map(int, inside.split(".."))
    return abs(last - first) + 1


def _choices(inside: str) -> list[str]:
    """Of a,b and of 08..11, which is 08, 09, 10, 11: as in bash, with zeros in front where an end has them."""
    if "," in inside:
        return inside.split(",")
    ends = inside.split("..")
    first, last = map(int, ends)
    width = max(map(len, ends)) if any(len(end) > 1 and end[0] == "0" for end in ends) else 0
    step = 1 if first <= last else -1
    return [f"{number:0{width}}" for number in range(first, last + step, step)]


def _files(text: str) -> list[str]:
    if os.path.lexists(text) or not glob.has_magic(text):
        return [text]
    folder = os.path.dirname(text)
    while folder and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    # the folders that exist stand for themselves, as /data[1] does in /data[1]/train-*.tar
    found = sorted(glob.glob(glob.escape(folder) + text[len(folder) :]))
    if not found:
        raise ArgumentError(f"{text}: no file has a name of this pattern: correct the path")
    return found


def _objects(url: str) -> list[str]:
    """A pattern in the last part of a URL is looked for in a listing of the folder. ? and [ are usual letters there."""
    folder, _, pattern = split_query(url)[0].rpartition("/")
    if "*" not in pattern:
        return [url]
    shown = without_credentials(url)
    if scheme_of(url) in ("http", "https"):
        raise ArgumentError(
            f"{shown}: files can't be listed over http: write numbers as {{0000..0146}}, or give each URL"
        )
    keys = [one.key for one in ObjectFolder(folder).children()[0]]
    matching = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
    names = [pattern] if pattern in keys else [key for key in keys if matching.fullmatch(key)]
    if not names:
        raise ArgumentError(f"{shown}: no object has a name of this pattern: correct the URL")
    return [join(folder, name) for name in names]
