"""Data that a page holds for its scripts, packed: thousands of things that say much the same."""

from __future__ import annotations

import base64
import zlib


def deflated(data: bytes) -> str:
    """Raw deflate, in base64; `inflate` of page.js undoes it."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return base64.b64encode(deflate.compress(data) + deflate.flush()).decode()
