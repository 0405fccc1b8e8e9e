"""BraTS 2025 GoAT -> nnU-Net raw: ``python dataset_conversion/Dataset528_BraTS2025GoAT.py -i SRC -d 528``.

The same as ``mmkd convert brats2025-goat SRC -d 528``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2025-goat", *sys.argv[1:]]))
