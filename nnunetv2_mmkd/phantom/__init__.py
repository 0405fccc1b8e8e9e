"""The digital brain-tumour phantom, the embedded data set.

``physics`` has the signal equations and ``fields`` the random fields and scanner effects, both free of anatomy;
``brain_tissues`` and ``brain`` are the BraTS-like head; ``case`` makes a case of it and ``writer`` a data set.
"""

from __future__ import annotations

from nnunetv2_mmkd.phantom.case import PhantomCase, PhantomConfig, make_case
from nnunetv2_mmkd.phantom.writer import write_phantom

__all__ = ["PhantomCase", "PhantomConfig", "make_case", "write_phantom"]
