"""FeTS 2021 -> nnU-Net raw: ``python dataset_conversion/Dataset515_FeTS2021.py -i SRC -d 515``.

The same as ``mmkd convert fets2021 SRC -d 515``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "fets2021", *sys.argv[1:]]))
