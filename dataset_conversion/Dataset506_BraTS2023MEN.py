"""BraTS 2023 MEN -> nnU-Net raw: ``python dataset_conversion/Dataset506_BraTS2023MEN.py -i SRC -d 506``.

The same as ``mmkd convert brats2023-men SRC -d 506``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2023-men", *sys.argv[1:]]))
