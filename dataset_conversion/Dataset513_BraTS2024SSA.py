"""BraTS 2024 SSA -> nnU-Net raw: ``python dataset_conversion/Dataset513_BraTS2024SSA.py -i SRC -d 513``.

The same as ``mmkd convert brats2024-ssa SRC -d 513``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2024-ssa", *sys.argv[1:]]))
