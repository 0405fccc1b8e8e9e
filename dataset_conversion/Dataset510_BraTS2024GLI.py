"""BraTS 2024 GLI -> nnU-Net raw: ``python dataset_conversion/Dataset510_BraTS2024GLI.py -i SRC -d 510``.

The same as ``mmkd convert brats2024-gli SRC -d 510``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2024-gli", *sys.argv[1:]]))
