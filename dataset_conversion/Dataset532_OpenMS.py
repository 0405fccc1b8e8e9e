"""Open MS (Ljubljana) -> nnU-Net raw: ``python dataset_conversion/Dataset532_OpenMS.py -i SRC -d 532``.

The same as ``mmkd convert open-ms SRC -d 532``.
"""

from __future__ import annotations

import sys

from nnunetv2_mmkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", "open-ms", *sys.argv[1:]]))
