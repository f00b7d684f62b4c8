"""The file system that is changed: the machine's own, or an unpacked image below a directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from shimcore.config.files import FILE_LIMIT_BYTES
from shimcore.errors import ShimError
from shimcore.systemd.yamltext import get_keys
from shimcore.yamlreading import YamlError

# Linux gives up after as many (path_resolution(7)).
_MOST_LINKS = 40


class Root:
    """Absolute paths as they are inside `directory`; symbolic links never lead out of it."""

    def __init__(self, directory: str | os.PathLike[str] = "/") -> None:
        self.directory = Path(directory).absolute()

    @property
    def is_machine(self) -> bool:
        """Whether this is the running machine's own file system."""
        return self.directory == Path("/")

    def real(self, path: str, *, last: bool = True) -> str:
        """`path` with its links followed inside the root; without `last`, not the last name's.

        What does not exist stays as it is. Raises ShimError for links that go in a circle, and for
        what this user may not see.
        """
        done = PurePosixPath("/")
        left = list(PurePosixPath(path).parts[1:])
        links = 0
        while left:
            name = left.pop(0)
            if name == "..":
                done = done.parent
                continue
            host = self._host(done / name)
            if not _is_link(host) or not (left or last):
                done /= name
                continue
            links += 1
            if links > _MOST_LINKS:
                raise ShimError(f"{path}: too many symbolic links")
            target = PurePosixPath(os.readlink(host))
            if target.is_absolute():
                done = PurePosixPath("/")
                target = target.relative_to("/")
            left[:0] = target.parts
        return str(done)

    def host(self, path: str, *, last: bool = True) -> Path:
        """Where a path of the root is for this process."""
        return self._host(PurePosixPath(self.real(path, last=last)))

    def exists(self, path: str) -> bool:
        """Whether anything is there, links followed."""
        return self.host(path).exists()

    def is_read_only(self, path: str) -> bool:
        """Whether the file system takes no writes where the path is, or would be.

        Raises ShimError for what cannot be seen.
        """
        place = self.host(path)
        try:
            while not place.exists():
                place = place.parent
            return bool(os.statvfs(place).f_flag & os.ST_RDONLY)
        except OSError as error:
            raise ShimError(f"{path}: {error.strerror}") from error

    def text(self, path: str, errors: str = "strict") -> str | None:
        """The file's text (UTF-8), line ends as they are; None when there is no such file.

        `/dev/null` is empty, also where an unpacked image has none. `errors`: what other bytes
        are (codecs). Raises ShimError for what cannot be read.
        """
        real = self.real(path)
        if real == os.devnull:
            return ""
        place = self._host(PurePosixPath(real))
        try:
            if stat.S_IFMT(place.stat().st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
                raise ShimError(f"{path}: not a regular file")  # a pipe would be waited for
            with place.open("rb") as file:
                content = file.read(FILE_LIMIT_BYTES + 1)
            if len(content) > FILE_LIMIT_BYTES:
                raise ShimError(f"{path}: larger than {FILE_LIMIT_BYTES >> 20} MiB")
            return content.decode(errors=errors)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except UnicodeDecodeError as error:
            raise ShimError(f"{path}: not UTF-8 text") from error
        except OSError as error:
            raise ShimError(f"{path}: {error.strerror}") from error

    def keys(self, path: str, keys: tuple[str, ...]) -> dict[str, str | None]:
        """The scalar values of top-level keys of a YAML file; None for all when it is not there.

        Raises ShimError for what cannot be read.
        """
        text = self.text(path)
        try:
            return get_keys(text or "", keys)
        except YamlError as error:
            raise ShimError(f"{path}: {error}") from error

    def names(self, path: str) -> Iterator[str]:
        """The names in a directory, sorted; none when it is not there."""
        try:
            yield from sorted(os.listdir(self.host(path)))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise ShimError(f"{path}: {error.strerror}") from error

    def changing(self, path: str) -> None:
        """Called before what is at `path` changes: a place to keep it. Raises ShimError.

        Here nothing is kept.
        """

    def _host(self, path: PurePosixPath) -> Path:
        return self.directory / path.relative_to("/")


def _is_link(path: Path) -> bool:
    """Raises ShimError where this user may not look."""
    try:
        return path.is_symlink()
    except PermissionError as error:
        raise ShimError(f"{path}: permission denied; run this as root") from error
