"""The page of a dump: one file that opens from the disk, with ``data.js`` and the pictures beside it."""

from __future__ import annotations

from importlib import resources


def html() -> str:
    """The whole page, style and script within."""
    folder = resources.files("vidunmask.pipelines.dump") / "page"
    text = (folder / "index.html").read_text(encoding="utf-8")
    for name in ("page.css", "plots.js", "viewer.js", "page.js"):
        text = text.replace(f"/* {name} */", (folder / name).read_text(encoding="utf-8"))
    return text
