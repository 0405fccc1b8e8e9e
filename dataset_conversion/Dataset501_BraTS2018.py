"""BraTS 2018 -> nnU-Net raw: ``python dataset_conversion/Dataset501_BraTS2018.py -i SRC -d 501``.

The same as ``mmkd convert brats2018 SRC -d 501``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.dataset_conversion.editions import BRATS2018

if __name__ == "__main__":
    sys.exit(main(["convert", BRATS2018.name, *sys.argv[1:]]))
