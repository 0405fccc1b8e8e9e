"""Draw ``images/architecture.svg``: which parts are nnU-Net's and which are ours.

``python documentation/draw_architecture.py``
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

FILE = Path(__file__).parent / "images" / "architecture.svg"
OURS, THEIRS, LINE = "#cfe3f7", "#ececec", "#444444"
WIDTH, HEIGHT, GAP = 150, 62, 28


@dataclass(frozen=True)
class Box:
    """A part.

    Attributes:
        title: first line.
        text: second and third line.
        ours: whose it is.
    """

    title: str
    text: tuple[str, ...]
    ours: bool


TRAINING = (
    Box("Data set", ("dataset.json lists what", "each case lacks"), True),
    Box("Plan, preprocess,", ("augment",), False),
    Box("Modality dropout", ("mask: what a sample", "has now"), True),
    Box("Planned network", ("encoder or streams,", "fusion, decoder"), True),
    Box("Method", ("task loss and", "distillation"), True),
    Box("Optimiser", ("schedule, logs,", "checkpoints"), False),
)
PREDICTION = (
    Box("Files of a case", ("any of them absent", ""), True),
    Box("Read, preprocess", (), False),
    Box("Mask", ("by name; proven,", "never guessed"), True),
    Box("Sliding window,", ("mirroring, ensemble",), False),
    Box("Segmentation", ("as from nnU-Net",), False),
    Box("Report", ("used, missing, and", "what to expect"), True),
)


def row(boxes: tuple[Box, ...], label: str, top: int) -> list[str]:
    """A row of boxes with arrows between them."""
    parts = [f'<text x="10" y="{top - 10}" font-weight="bold">{escape(label)}</text>']
    for index, box in enumerate(boxes):
        left = 10 + index * (WIDTH + GAP)
        fill = OURS if box.ours else THEIRS
        parts.append(
            f'<rect x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{fill}" stroke="{LINE}"/>'
        )
        lines = [box.title, *(line for line in box.text if line)]
        first = top + HEIGHT / 2 - 8 * (len(lines) - 1) + 5
        for number, line in enumerate(lines):
            weight = ' font-weight="bold"' if number == 0 else ""
            parts.append(
                f'<text x="{left + WIDTH / 2}" y="{first + 16 * number:g}" text-anchor="middle"{weight}>'
                f"{escape(line)}</text>"
            )
        if index:
            middle = top + HEIGHT / 2
            parts.append(
                f'<line x1="{left - GAP + 2}" y1="{middle}" x2="{left - 3}" y2="{middle}" stroke="{LINE}" '
                'stroke-width="1.5" marker-end="url(#arrow)"/>'
            )
    return parts


def drawing() -> str:
    """The SVG."""
    width = 20 + len(TRAINING) * (WIDTH + GAP) - GAP
    legend = [
        f'<rect x="10" y="228" width="16" height="14" fill="{OURS}" stroke="{LINE}"/>',
        '<text x="32" y="240">this package</text>',
        f'<rect x="150" y="228" width="16" height="14" fill="{THEIRS}" stroke="{LINE}"/>',
        '<text x="172" y="240">nnU-Net, unchanged</text>',
    ]
    marker = (
        '<defs><marker id="arrow" markerWidth="8" markerHeight="8" refX="6" refY="3" orient="auto">'
        f'<path d="M0,0 L7,3 L0,6 z" fill="{LINE}"/></marker></defs>'
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 252" font-family="sans-serif" '
            'font-size="13">',
            f'<rect width="{width}" height="252" fill="white"/>',
            marker,
            *row(TRAINING, "Training", 28),
            *row(PREDICTION, "Prediction", 136),
            *legend,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(drawing(), encoding="utf-8")
