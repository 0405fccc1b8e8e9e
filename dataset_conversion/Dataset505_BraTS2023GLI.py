"""BraTS 2023 GLI -> nnU-Net raw: ``python dataset_conversion/Dataset505_BraTS2023GLI.py -i SRC -d 505``.

The same as ``mmkd convert brats2023-gli SRC -d 505``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2023-gli", *sys.argv[1:]]))
