"""ISLES 2022 -> nnU-Net raw: ``python dataset_conversion/Dataset529_ISLES2022.py -i SRC -d 529``.

The same as ``mmkd convert isles2022 SRC -d 529``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "isles2022", *sys.argv[1:]]))
