"""Files that appear whole or not at all, whoever else writes them and whatever kills the process."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from imgedit.errors import FileError

#: what a file system or kernel without anonymous files answers
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS, errno.ENOENT, errno.EPERM, errno.EXDEV}

_HINTS = {
    errno.ENOSPC: "the disk is full: make room, or write to another disk",
    errno.EDQUOT: "your quota is used up: make room, or write to another disk",
    errno.EFBIG: "the file is larger than this file system or `ulimit -f` allows",
    errno.EROFS: "the disk is mounted read-only: write somewhere else",
    errno.EACCES: "you may not do this here: check the rights with `ls -ld`, or use another folder",
    errno.EPERM: "you may not do this here: check the rights with `ls -ld`, or use another folder",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: "too many open files: raise `ulimit -n`",
}


def show(path: str | os.PathLike[str]) -> str:
    """Return *path* as text that can be printed and stored, also where the name is not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def file_error(error: OSError | ValueError, path: str | os.PathLike[str], doing: str) -> FileError:
    """Return *error* as a FileError: what could not be done with *path* (``read``, ``written``), and what to do."""
    name, code = show(path), getattr(error, "errno", None) or 0
    folder = Path(path).parent
    if code == errno.ENOENT and doing == "read":
        return FileError(f"{name} does not exist", "check the name: `ls` shows what is there")
    if code == errno.ENOENT and not folder.is_dir():
        return FileError(f"the folder {show(folder)} does not exist", f"mkdir -p {show(folder)}")
    if code in (errno.EISDIR, errno.ENOTDIR):
        what = "is a folder" if code == errno.EISDIR else "lies in something that is no folder"
        return FileError(f"{name} {what}", "give the name of a file")
    if isinstance(error, ValueError) and not code:
        return FileError(f"{name} is no name for a file: {error}", "give another name")
    why = getattr(error, "strerror", None) or str(error)
    return FileError(f"{name} could not be {doing}: {why}", _HINTS.get(code, "check the file, its disk and its rights"))


class Pending:
    """A file that is being written beside its place: :meth:`flush`, then :meth:`commit` puts it there.

    :meth:`discard` leaves no trace of one that was not committed.

    Where the system can, the file has no name before it is whole (O_TMPFILE), so that even a killed
    process leaves nothing behind. Rights are those of the file replaced, or as the umask says.
    Raises FileError, also for a target that is a symbolic link, a folder, a device or write-protected.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._named: Path | None = None
        try:
            mode = _mode(path)
            fd = self._open()
            if mode is not None:
                os.fchmod(fd, mode)
        except (OSError, ValueError) as error:
            self._remove()
            raise file_error(error, path, "written") from None
        self.file: BinaryIO = os.fdopen(fd, "w+b", buffering=1 << 16)

    def _open(self) -> int:
        tmpfile = getattr(os, "O_TMPFILE", 0)
        if tmpfile:
            try:
                return os.open(self.path.parent, tmpfile | os.O_RDWR | os.O_CLOEXEC, 0o666)
            except OSError as error:
                if error.errno not in _UNSUPPORTED or not self.path.parent.is_dir():
                    raise
        return self._open_named()

    def _open_named(self) -> int:
        self._named = self._temporary()
        return os.open(self._named, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def _temporary(self) -> Path:
        return self.path.with_name(f".imgedit-{os.urandom(8).hex()}.tmp")

    def flush(self) -> None:
        """Bring the data to the disk; FileError when they do not fit."""
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
        except OSError as error:
            raise file_error(error, self.path, "written") from None

    def commit(self) -> None:
        """Put the file, whole and flushed, in its place."""
        try:
            if self._named is None:
                self._link()
            if self._named is not None:
                os.replace(self._named, self.path)  # noqa: PTH105  one call, no Path in between
                self._named = None
        except OSError as error:
            raise file_error(error, self.path, "written") from None
        self.file.close()

    def _link(self) -> None:
        """Give the anonymous file its own name if that is free, else a temporary one to be renamed."""
        source, fd = f"/proc/self/fd/{self.file.fileno()}", os.open("/", os.O_PATH | os.O_CLOEXEC)
        try:  # a folder descriptor makes Python call linkat with AT_SYMLINK_FOLLOW
            try:
                os.link(source, self.path, src_dir_fd=fd, follow_symlinks=True)
            except FileExistsError:
                # known before it exists: a signal between the two must not leave it behind
                self._named = self._temporary()
                os.link(source, self._named, src_dir_fd=fd, follow_symlinks=True)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self._copy()
        finally:
            os.close(fd)

    def _copy(self) -> None:
        # no /proc here, or a file system that cannot link: write the data once more, under a name
        mode = stat.S_IMODE(os.fstat(self.file.fileno()).st_mode)
        with os.fdopen(self._open_named(), "wb") as named:
            self.file.seek(0)
            while part := self.file.read(1 << 20):
                named.write(part)
            named.flush()
            os.fchmod(named.fileno(), mode)
            os.fsync(named.fileno())

    def discard(self) -> None:
        """Forget the file; nothing after a commit."""
        with contextlib.suppress(OSError):  # a full disk speaks up at close() once more
            self.file.close()
        self._remove()

    def _remove(self) -> None:
        if self._named is not None:
            with contextlib.suppress(OSError):
                self._named.unlink()
            self._named = None


def write_whole(path: Path, data: bytes) -> None:
    """Write *data* to *path*, which is then whole, or as it was before. Raises FileError."""
    pending = Pending(path)
    try:
        pending.file.write(data)
        pending.flush()
        pending.commit()
    except OSError as error:
        raise file_error(error, path, "written") from None
    finally:
        pending.discard()


def _mode(path: Path) -> int | None:
    """Return the rights of the file that *path* replaces, None for a new one; refuse what is no plain file."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    name = show(path)
    if stat.S_ISLNK(found.st_mode):
        target = show(os.path.realpath(path))
        raise FileError(f"{name} is a symbolic link", f"write to the file itself: {target}")
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise FileError(f"{name} is no plain file", "write to `-` and send standard output there")
    if not os.access(path, os.W_OK):
        raise FileError(f"{name} is write-protected", f"chmod u+w {name}")
    return stat.S_IMODE(found.st_mode)
