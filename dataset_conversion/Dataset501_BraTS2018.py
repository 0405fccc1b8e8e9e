"""BraTS 2018 -> nnU-Net raw: ``python dataset_conversion/Dataset501_BraTS2018.py -i SRC -d 501``.

The same as ``mmkd convert brats2018 SRC -d 501``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2018", *sys.argv[1:]]))
