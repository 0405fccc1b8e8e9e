"""BraTS 2025 MEN -> nnU-Net raw: ``python dataset_conversion/Dataset524_BraTS2025MEN.py -i SRC -d 524``.

The same as ``mmkd convert brats2025-men SRC -d 524``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2025-men", *sys.argv[1:]]))
