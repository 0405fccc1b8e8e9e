"""BraTS 2024 GoAT -> nnU-Net raw: ``python dataset_conversion/Dataset514_BraTS2024GoAT.py -i SRC -d 514``.

The same as ``mmkd convert brats2024-goat SRC -d 514``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2024-goat", *sys.argv[1:]]))
