"""Decodes old JPEG (ISO 10918-1, lossless above all) in a separate process.

Only GDCM reads it, and GDCM ends its process on about one damaged file in two hundred (measured by fuzzing).
A child process decodes, so that a file can never end a service; if the child dies, the study is refused.

The child reads `<size, frame number>` and a DICOM file from standard input, and answers with `<size>` and the
stored values as .npy; size 0 means that it could not decode the frame.
"""

from __future__ import annotations

import io
import select
import struct
import subprocess
import sys
from typing import IO, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

OLD_JPEG: Final = frozenset(f"1.2.840.10008.1.2.4.{k}" for k in (50, 51, 57, 70))
"""Transfer syntaxes: baseline, extended, lossless, lossless with first-order prediction."""
PATIENCE_S: Final = 60.0
"""A decoder that is silent for this long [s] has hung: one frame takes some milliseconds."""

_HEAD: Final = struct.Struct("<qq")
_SIZE: Final = struct.Struct("<q")


class JpegApart:
    """A child process that decodes frames, started on first use and ended by `close`."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def decode(self, file: bytes, number: int) -> NDArray[np.generic]:
        """The stored values of frame `number` of a DICOM file. Raises `RuntimeError` on any failure."""
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "scantwin.imaging.jpeg_apart"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        child = self._child
        if child.stdin is None or child.stdout is None:
            raise RuntimeError("no pipe")
        try:
            child.stdin.write(_HEAD.pack(len(file), number) + file)
            child.stdin.flush()
            if not select.select([child.stdout], [], [], PATIENCE_S)[0]:
                self.close()  # a late answer must not be read as that to the next frame
                raise RuntimeError("the decoder hangs")
            (size,) = _SIZE.unpack(_exactly(child.stdout, _SIZE.size))
            if size == 0:
                raise RuntimeError("the decoder could not")
            return np.asarray(np.load(io.BytesIO(_exactly(child.stdout, size)), allow_pickle=False))
        except (BrokenPipeError, EOFError):
            self.close()
            raise RuntimeError("the decoder crashed") from None

    def close(self) -> None:
        """Ends the child."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def serve(source: BinaryIO, target: BinaryIO) -> None:
    """The child's loop."""
    from pydicom import dcmread
    from pydicom.pixels.utils import pixel_array

    while len(head := source.read(_HEAD.size)) == _HEAD.size:
        size, number = _HEAD.unpack(head)
        answer = io.BytesIO()
        try:
            dataset = dcmread(io.BytesIO(source.read(size)), force=True)
            np.save(answer, pixel_array(dataset, index=number, raw=True, decoding_plugin="gdcm"))
        except Exception:
            answer = io.BytesIO()
        target.write(_SIZE.pack(len(answer.getvalue())) + answer.getvalue())
        target.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
