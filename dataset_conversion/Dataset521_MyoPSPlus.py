"""MyoPS++ (CARE 2024) -> nnU-Net raw: ``python dataset_conversion/Dataset521_MyoPSPlus.py -i SRC -d 521``.

The same as ``mmkd convert myops-plus SRC -d 521``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "myops-plus", *sys.argv[1:]]))
