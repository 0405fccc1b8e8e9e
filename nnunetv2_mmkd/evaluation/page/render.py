"""From a page's content to its file."""

from __future__ import annotations

import base64
import hashlib
import logging
from pathlib import Path

import jinja2
from markupsafe import Markup

from nnunetv2_mmkd import __version__
from nnunetv2_mmkd.evaluation.page.content import Page
from nnunetv2_mmkd.files import write_text

log = logging.getLogger(__name__)

PAGE = "report.html"
"""The page, in the output folder."""

_HERE = Path(__file__).parent


def rendered(page: Page) -> str:
    """A page as HTML: all it needs is in it, and it forbids the browser to load or run anything else."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return environment.get_template("page.html").render(
        page=page,
        version=__version__,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def write_page(page: Page, file: Path) -> None:
    """Write a page, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    text = rendered(page)
    write_text(file, text)
    log.info("page to look at, for any browser: %s (%.1f MB)", file, len(text.encode()) / 1e6)


def _hash(text: str) -> str:
    """By which the page's own Content-Security-Policy knows its style and script."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
