"""A FUSE file system that shows another directory, for as long as this process is not stopped.

passing_fs.py SOURCE MOUNTPOINT
"""

import errno
import os
import sys

import fusepy


class Passing(fusepy.Operations):
    def __init__(self, source):
        self.source = source

    def _path(self, path):
        return self.source + path

    def getattr(self, path, handle=None):
        try:
            found = os.lstat(self._path(path))
        except OSError as error:
            raise fusepy.FuseOSError(error.errno or errno.EIO)
        names = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_atime", "st_mtime", "st_ctime")
        return {name: getattr(found, name) for name in names}

    def readdir(self, path, handle):
        return [".", "..", *os.listdir(self._path(path))]

    def open(self, path, flags):
        return os.open(self._path(path), flags)

    def read(self, path, size, offset, handle):
        return os.pread(handle, size, offset)

    def release(self, path, handle):
        os.close(handle)


fusepy.FUSE(
    Passing(sys.argv[1]),
    sys.argv[2],
    foreground=True,
    nothreads=True,
    direct_io=True,
    attr_timeout=0,
    entry_timeout=0,
    negative_timeout=0,
)
