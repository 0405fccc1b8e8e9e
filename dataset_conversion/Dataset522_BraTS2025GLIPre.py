"""BraTS 2025 GLI -> nnU-Net raw: ``python dataset_conversion/Dataset522_BraTS2025GLIPre.py -i SRC -d 522``.

The same as ``mmkd convert brats2025-gli-pre SRC -d 522``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2025-gli-pre", *sys.argv[1:]]))
