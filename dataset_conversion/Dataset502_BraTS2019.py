"""BraTS 2019 -> nnU-Net raw: ``python dataset_conversion/Dataset502_BraTS2019.py -i SRC -d 502``.

The same as ``mmkd convert brats2019 SRC -d 502``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2019", *sys.argv[1:]]))
