"""Small pictures of the images, as files that the page loads when they are looked at.

Images are untrusted: each is decoded and encoded anew, so that nothing but pixels reaches the page. A picture that is
there already is not made again; those that no page shows any more are removed.
"""

import hashlib
import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from ..data.images import DECODING_ERRORS, ImageSet
from ..files import Item

NAMES = re.compile(r"[0-9a-f]{2}/[0-9a-f]{18}\.(png|jpg|\d+\.tmp)")  # of pictures, and of one that was being written
SMALL = 64  # pixels: up to here as PNG, pixel by pixel

Thumbnail = tuple[str, int, int]  # file below thumbs/, width, height


class Thumbnails:
    """Of the images of `source`, none where it is None, in the folder `root`; at most `size` pixels on either side."""

    def __init__(self, source: ImageSet | None, root: Path, size: int):
        self.root, self.size = root, size
        self.source = source if size else None
        self.known = {item.image: item for item in source.items} if source and size else {}
        self.made: dict[str, Thumbnail | None] = {}

    @property
    def unreadable(self) -> int:
        """How many images could not be read."""
        return sum(thumbnail is None for thumbnail in self.made.values())

    def of(self, names: Iterable[str]) -> dict[str, Thumbnail]:
        """By name those of `names` that the data set has and that can be read; a thread per core decodes."""
        wanted = [*dict.fromkeys(name for name in names if name in self.known)]
        todo = [self.known[name] for name in wanted if name not in self.made]
        if todo:
            self.root.mkdir(parents=True, exist_ok=True)
            with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
                self.made |= zip((item.image for item in todo), pool.map(self._one, todo), strict=True)
        return {name: thumbnail for name in wanted if (thumbnail := self.made[name])}

    def none(self) -> "Thumbnails":
        """The same of no images."""
        return Thumbnails(None, self.root, self.size)

    def clean(self) -> None:
        """Remove the pictures that were not asked for; where none were made, they stay for another time."""
        wanted = {thumbnail[0] for thumbnail in self.made.values() if thumbnail}
        for file in self.root.glob("*/*") if wanted else ():
            name = file.relative_to(self.root).as_posix()
            if name not in wanted and NAMES.fullmatch(name):
                file.unlink()

    def _one(self, item: Item) -> Thumbnail | None:
        try:
            return self._made(item)
        except DECODING_ERRORS:
            return None

    def _made(self, item: Item) -> Thumbnail:
        assert self.source is not None
        digest = self._digest(item)
        for ending in ("png", "jpg"):
            name = f"{digest[:2]}/{digest[2:]}.{ending}"
            if (self.root / name).is_file():
                with Image.open(self.root / name) as there:
                    return name, *there.size
        image = self.source.rgb(item)
        image.thumbnail((self.size, self.size), Image.Resampling.LANCZOS)
        ending = "png" if max(image.size) <= SMALL else "jpg"
        name = f"{digest[:2]}/{digest[2:]}.{ending}"
        file = self.root / name
        file.parent.mkdir(exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}.tmp")
        image.save(temporary, "PNG" if ending == "png" else "JPEG", **({} if ending == "png" else {"quality": 85}))
        temporary.replace(file)
        return name, *image.size

    def _digest(self, item: Item) -> str:
        """Of what the picture is made from, 20 hexadecimal digits: another file, another date, another size."""
        assert self.source is not None
        stamp = ""
        if self.source.arrays is None:
            stat = (self.source.root / item.image).stat()
            stamp = f"{stat.st_size} {stat.st_mtime_ns}"
        text = f"{self.source.root.resolve()}\n{item.image}\n{stamp}\n{self.size}"
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:20]
