"""BraTS 2025 MET -> nnU-Net raw: ``python dataset_conversion/Dataset525_BraTS2025MET.py -i SRC -d 525``.

The same as ``mmkd convert brats2025-met SRC -d 525``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2025-met", *sys.argv[1:]]))
