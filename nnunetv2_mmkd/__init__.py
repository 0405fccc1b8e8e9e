"""nnU-Net v2 for any subset of the modalities.

``predict`` and ``MMKDPredictor`` are imported when they are first asked for: ``import nnunetv2_mmkd`` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnunetv2_mmkd.inference.predict import predict
    from nnunetv2_mmkd.inference.predictor import MMKDPredictor

__version__ = "0.1.0"
__all__ = ["MMKDPredictor", "__version__", "predict"]

_HOMES = {
    "MMKDPredictor": "nnunetv2_mmkd.inference.predictor",
    "predict": "nnunetv2_mmkd.inference.predict",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
