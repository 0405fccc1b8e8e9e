"""FeTS 2022 -> nnU-Net raw: ``python dataset_conversion/Dataset516_FeTS2022.py -i SRC -d 516``.

The same as ``mmkd convert fets2022 SRC -d 516``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "fets2022", *sys.argv[1:]]))
