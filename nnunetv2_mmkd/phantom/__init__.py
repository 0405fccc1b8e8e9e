"""The digital phantoms, the embedded data sets: a brain with a tumour and a heart with an infarct.

``physics`` has the signal equations and ``fields`` the random fields and scanner effects, both free of anatomy;
``brain_tissues``, ``brain`` and ``case`` make the BraTS-like head, ``heart_tissues``, ``heart`` and ``heart_case`` the
MyoPS-like short-axis stack. ``editions`` says which of them stands in for an edition's data, and ``writer`` writes a
data set as the edition's archives look.
"""
