"""Editions of the challenges as data: one :class:`~nnunetv2_mmkd.editions.spec.EditionSpec` each."""
