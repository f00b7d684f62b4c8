"""The demo's table of images with what it does not need: lists, removal, short IDs, users."""

from __future__ import annotations

from shimcore.demo.runtime_images import ImageTable, PulledImage
from shimcore.pb import cri_pb2
from shimcore.runtime.values import ImageRecord


class ScriptedTable(ImageTable):
    """Names and what they point at, and the images behind them."""

    def images(self) -> list[cri_pb2.Image]:
        """Every image that has a name, once."""
        named = {record.target.digest: record for record in self.records.values()}
        pulled = {
            self._content[digest].id: self._content[digest]
            for digest in named
            if digest in self._content
        }
        return [self._image(each) for each in pulled.values()]

    def listed(self, name: str) -> list[cri_pb2.Image]:
        """Every image, or the one that `name` leads to if it is not empty."""
        if not name:
            return self.images()
        found = self.find(name)
        return [found] if found else []

    def remove(self, text: str) -> None:
        """Removes all names of the image that `text` leads to; none is no error."""
        found = self.find(text)
        if found:
            for name in self._names(found.id):
                del self.records[name]

    def _resolve(self, text: str) -> ImageRecord | None:
        return super()._resolve(text) or self._by_short_id(text)

    def _by_short_id(self, text: str) -> ImageRecord | None:
        ids = [name for name in self.records if name.startswith("sha256:" + text)]
        return self.records[ids[0]] if len(ids) == 1 else None

    def _image(self, pulled: PulledImage) -> cri_pb2.Image:
        image = super()._image(pulled)
        user = pulled.user.partition(":")[0]
        if user.isdecimal():
            image.uid.value = int(user)
        else:
            image.username = user
        return image
