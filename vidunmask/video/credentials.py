"""Content Credentials: a signed account of how a picture or video was made, which is untrue of what is made of it.

The account lies in boxes (C2PA specification, section 11.1; ISO 19566-5) that begin alike in every kind of file.
"""

from __future__ import annotations

from pathlib import Path

TIFF_TAG = 0xCD41
NAME = "the Content Credentials (C2PA) of the original"
_BEGIN = b"jumdc2pa"  # the head of a description box, and the first letters of its type
_LOOKED_AT = 1 << 20  # bytes of a video; the account stands before its pictures


def holds_credentials(data: bytes) -> bool:
    """Whether a picture, or the beginning of a video, holds Content Credentials."""
    return _BEGIN in data


def video_holds_credentials(path: str) -> bool:
    """Whether the video at ``path`` begins with Content Credentials; False for a stream."""
    if "://" in path:
        return False
    with Path(path).open("rb") as file:
        return holds_credentials(file.read(_LOOKED_AT))
