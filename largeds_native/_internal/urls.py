"""URLs of object storage: what is one, how names are joined to it, and how it is shown without credentials."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote

from largeds_native.errors import ArgumentError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_USER = re.compile(r"(://)[^\s/'\"]*@")
_QUERY = re.compile(r"(https?://[^\s?'\"]*)\?\S*", re.IGNORECASE)
_LOCAL = ("file", "local")  # schemes of files on this machine


def is_url(text: object) -> bool:
    """Whether this names object storage: "s3://bucket/key", also "http://..." and "memory://...". A path is no URL, and
    neither is "file://...", which `local_path` turns into a path."""
    return isinstance(text, str) and scheme_of(text) not in ("", *_LOCAL)


def scheme_of(url: str) -> str:
    """ "s3" of "s3://bucket/key", in lower case; "" of a path. Of chained URLs ("simplecache::s3://..."), the last."""
    found = _SCHEME.match(url.rsplit("::", 1)[-1])
    return found.group(1).lower() if found else ""


def local_path(text: str | os.PathLike[str]) -> str:
    """The path that "file:///data/a b" names; any other path as it is."""
    path = os.fspath(text)
    if not isinstance(path, str) or scheme_of(path) not in _LOCAL:
        return path
    host, slash, rest = path.partition("://")[2].partition("/")
    if host not in ("", "localhost"):
        raise ArgumentError(f"{path}: expected file:///path, found the host {host!r}")
    return unquote(slash + rest)


def without_credentials(text: str) -> str:
    """A URL, or a message with URLs in it, without the user, the password and the query, which may hold a token."""
    return _QUERY.sub(r"\1", _USER.sub(r"\1", text))


def split_query(url: str) -> tuple[str, str]:
    """A URL of http without its query, and the query. In other schemes, "?" is a letter of a name."""
    base, _, query = url.partition("?") if scheme_of(url) in ("http", "https") else (url, "", "")
    return base, query


@contextmanager
def hiding_credentials(url: str) -> Iterator[None]:
    """Errors in this block show the URL without them."""
    try:
        yield
    except Exception as error:
        if url not in str(error):
            raise
        shown = without_credentials(url)
        error.args = tuple(one.replace(url, shown) if isinstance(one, str) else one for one in error.args)
        if isinstance(error, OSError) and isinstance(error.strerror, str):
            error.strerror = error.strerror.replace(url, shown)
        raise


def join(url: str, name: str) -> str:
    """The URL of what is named below a folder's URL, which keeps its query if it is one of http."""
    base, mark, query = url.partition("?") if scheme_of(url) in ("http", "https") else (url, "", "")
    return f"{base.rstrip('/')}/{name.lstrip('/')}{mark}{query}" if name else url
