"""BraTS 2023 MET -> nnU-Net raw: ``python dataset_conversion/Dataset507_BraTS2023MET.py -i SRC -d 507``.

The same as ``mmkd convert brats2023-met SRC -d 507``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2023-met", *sys.argv[1:]]))
