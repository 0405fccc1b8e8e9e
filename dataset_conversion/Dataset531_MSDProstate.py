"""MSD task 5 (prostate) -> nnU-Net raw: ``python dataset_conversion/Dataset531_MSDProstate.py -i SRC -d 531``.

The same as ``mmkd convert msd-prostate SRC -d 531``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "msd-prostate", *sys.argv[1:]]))
