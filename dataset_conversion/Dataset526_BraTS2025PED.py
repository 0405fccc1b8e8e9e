"""BraTS 2025 PED -> nnU-Net raw: ``python dataset_conversion/Dataset526_BraTS2025PED.py -i SRC -d 526``.

The same as ``mmkd convert brats2025-ped SRC -d 526``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2025-ped", *sys.argv[1:]]))
