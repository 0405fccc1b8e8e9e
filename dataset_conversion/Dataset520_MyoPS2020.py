"""MyoPS 2020 -> nnU-Net raw: ``python dataset_conversion/Dataset520_MyoPS2020.py -i SRC -d 520``.

The same as ``mmkd convert myops2020 SRC -d 520``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "myops2020", *sys.argv[1:]]))
