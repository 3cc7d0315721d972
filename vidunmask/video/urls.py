"""Addresses of streams."""

from __future__ import annotations

import re

_PASSWORD = re.compile(r"(://[^\s/?#:@]*):[^\s/?#]*@")
_KEY = re.compile(r"(\brtmps?://[^\s/]*/[^\s/]*/)\S+?(?=:?(?:\s|$))", re.IGNORECASE)  # what follows the application
_QUERY = re.compile(r"(://[^\s?]*\?)\S+?(?=:?(?:\s|$))")  # tokens, and SRT's passphrase


def without_secrets(text: str) -> str:
    """A URL, or words with URLs in them, as they may be shown: with ``***`` for passwords, RTMP stream keys and queries."""
    for secret, known in ((_PASSWORD, r"\1:***@"), (_KEY, r"\1***"), (_QUERY, r"\1***")):
        text = secret.sub(known, text)
    return text
