"""Put the demo's picture into the README, small enough for a page.

``mmkd demo && python documentation/copy_overlay.py`` writes ``documentation/images/overlay.png``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

TARGET = Path(__file__).parent / "images" / "overlay.png"
WIDTH, COLOURS = 1000, 255


def main() -> None:
    """Copy the picture of a demo's folder (first argument, default ``mmkd_demo``)."""
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "mmkd_demo") / "demo.png"
    picture = Image.open(source).convert("RGB")
    small = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    small.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(TARGET, optimize=True)


if __name__ == "__main__":
    main()
