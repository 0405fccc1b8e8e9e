"""PI-CAI -> nnU-Net raw: ``python dataset_conversion/Dataset530_PICAI.py -i SRC -d 530``.

The same as ``mmkd convert picai SRC -d 530``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "picai", *sys.argv[1:]]))
