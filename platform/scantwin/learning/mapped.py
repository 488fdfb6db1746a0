"""Memory-maps the arrays of a safetensors file: what is read of them is the file, not memory of our own.

The library makes copies for NumPy; for torch it maps writable memory, which is counted as ours.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

_LENGTH_BYTES: Final = 8
_KINDS: Final = {"BOOL": np.bool_, "U8": np.uint8, "F16": np.float16, "F32": np.float32, "F64": np.float64}
"""The dtypes that are read, by safetensors' name."""


class NotMapped(ValueError):
    """The file is not what it should be: cut short, damaged, or of another kind."""


def mapped(path: Path) -> tuple[dict[str, str], dict[str, NDArray[np.generic]]]:
    """Metadata and arrays (read only) of the safetensors file at `path`; they outlive its deletion.

    The format (huggingface.co/docs/safetensors): 8 bytes with the header's length; the header, JSON with
    the dtype, shape and position of each array; the arrays. All little-endian. Raises `FileNotFoundError`,
    `NotMapped`.
    """
    with path.open("rb") as file:
        try:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            begin = _LENGTH_BYTES + length
            whole = np.asarray(np.memmap(file, np.uint8, "r"))
            if begin > whole.size:
                raise NotMapped("its header is longer than it is")
            header = json.loads(whole[_LENGTH_BYTES:begin].tobytes())
            about = header.pop("__metadata__", {})
            return about, {str(name): _array(whole[begin:], told) for name, told in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NotMapped(f"{path}: {error}") from error


def _array(data: NDArray[np.uint8], told: dict[str, list[int]]) -> NDArray[np.generic]:
    start, stop = told["data_offsets"]
    if not 0 <= start <= stop <= data.size:
        raise NotMapped("an array lies beyond its end")
    return data[start:stop].view(_KINDS[str(told["dtype"])]).reshape(told["shape"])
