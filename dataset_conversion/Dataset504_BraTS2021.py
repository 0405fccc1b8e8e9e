"""BraTS 2021 -> nnU-Net raw: ``python dataset_conversion/Dataset504_BraTS2021.py -i SRC -d 504``.

The same as ``mmkd convert brats2021 SRC -d 504``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2021", *sys.argv[1:]]))
