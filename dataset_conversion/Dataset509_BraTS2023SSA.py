"""BraTS 2023 SSA -> nnU-Net raw: ``python dataset_conversion/Dataset509_BraTS2023SSA.py -i SRC -d 509``.

The same as ``mmkd convert brats2023-ssa SRC -d 509``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2023-ssa", *sys.argv[1:]]))
