"""FeTS 2024 -> nnU-Net raw: ``python dataset_conversion/Dataset517_FeTS2024.py -i SRC -d 517``.

The same as ``mmkd convert fets2024 SRC -d 517``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "fets2024", *sys.argv[1:]]))
