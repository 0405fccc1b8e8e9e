"""BraTS 2024 PED -> nnU-Net raw: ``python dataset_conversion/Dataset512_BraTS2024PED.py -i SRC -d 512``.

The same as ``mmkd convert brats2024-ped SRC -d 512``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2024-ped", *sys.argv[1:]]))
