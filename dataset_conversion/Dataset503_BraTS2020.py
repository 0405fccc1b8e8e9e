"""BraTS 2020 -> nnU-Net raw: ``python dataset_conversion/Dataset503_BraTS2020.py -i SRC -d 503``.

The same as ``mmkd convert brats2020 SRC -d 503``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2020", *sys.argv[1:]]))
