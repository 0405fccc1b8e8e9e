"""Names of the papers' rivals for classification; imports no torch, for ``mmkd info``."""

from __future__ import annotations

from collections.abc import Mapping

RIVALS_ABOUT: Mapping[str, str] = {
    "ShaSpec": "an encoder of its own and a shared one for each modality",
    "AutoEncoder": "an auto-encoder of the features fills in what is missing",
    "SMIL": "weighted sums of priors stand in for what is missing, by Bayesian meta-learning",
    "Flex-MoE": "embeddings of what is missing, and an expert for each combination of modalities",
}
"""By the name they have in the papers' tables: what each is, in a line."""
