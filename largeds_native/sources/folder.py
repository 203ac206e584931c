"""Images in folders, here or in object storage."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from largeds_native._internal.urls import is_url, local_path
from largeds_native.sources.base import Source
from largeds_native.sources.classes import with_classes
from largeds_native.sources.folder_source import FolderSource
from largeds_native.sources.pictures import with_pictures
from largeds_native.sources.url_folder import UrlFolderSource


def folder(
    path: str | os.PathLike[str],
    *,
    classes: Any = None,
    masks: Any = None,
    pictures: Mapping[str, Any] | None = None,
    ignore: int | None = None,
) -> Source:
    """A source from the images in the folders of `path`, or of a URL as s3://bucket/train, by the rules of
    torchvision's ImageFolder: each folder is a class, classes are numbered in sorted order, files are found at any
    depth and come in sorted order, and links to folders are followed (but not in circles). A class without images keeps
    its number. If no folder has an image, the images directly in `path` are taken, without labels. With `classes`,
    names or a store, labels are numbered by these: a folder that lacks some of them keeps the numbers.
    `store.report.notes` counts the images that are left out: those beside the folders of classes, and those of other
    formats, as .gif; and says so if there are no labels, or if the classes are "train" and "val".

    masks: a folder with a mask for each image, at the same path below it up to the ending (.png, .tif, .bmp, .gif,
        .pgm), as the field "mask"; or a mapping from names of fields to such folders. ignore: the number of a mask's
        pixels outside of the image, which a random crop with padding shows; 0 without it. An image without a mask, or
        with one of another size, is a failed sample.
    pictures: {name: folder} of other pictures beside the images, such as depth, in the same way.

    Raises PackError if there is no image at all, ArgumentError if a folder of masks has none.
    """
    if is_url(path):
        return with_classes(with_pictures(UrlFolderSource(str(path)), masks, pictures, ignore), classes)
    return with_classes(with_pictures(FolderSource(Path(local_path(path))), masks, pictures, ignore), classes)
