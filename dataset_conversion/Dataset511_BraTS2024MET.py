"""BraTS 2024 MET -> nnU-Net raw: ``python dataset_conversion/Dataset511_BraTS2024MET.py -i SRC -d 511``.

The same as ``mmkd convert brats2024-met SRC -d 511``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2024-met", *sys.argv[1:]]))
