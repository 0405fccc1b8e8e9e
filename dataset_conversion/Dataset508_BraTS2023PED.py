"""BraTS 2023 PED -> nnU-Net raw: ``python dataset_conversion/Dataset508_BraTS2023PED.py -i SRC -d 508``.

The same as ``mmkd convert brats2023-ped SRC -d 508``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2023-ped", *sys.argv[1:]]))
