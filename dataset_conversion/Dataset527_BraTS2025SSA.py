"""BraTS 2025 SSA -> nnU-Net raw: ``python dataset_conversion/Dataset527_BraTS2025SSA.py -i SRC -d 527``.

The same as ``mmkd convert brats2025-ssa SRC -d 527``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2025-ssa", *sys.argv[1:]]))
