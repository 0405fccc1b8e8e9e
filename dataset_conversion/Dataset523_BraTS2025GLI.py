"""BraTS 2025 GLI -> nnU-Net raw: ``python dataset_conversion/Dataset523_BraTS2025GLI.py -i SRC -d 523``.

The same as ``mmkd convert brats2025-gli SRC -d 523``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2025-gli", *sys.argv[1:]]))
