__version__ = "0.3.0"

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from .core.checks import ColorizationError

if TYPE_CHECKING:
    from .colorize import Colorizer
    from .core.checks import (
        ClusterError, ColorizeError, DatasetError, DemoError, ExportError, ImageError, MetricError, ModelError,
        ReportError, RunError)
    from .dataset import load_photos
    from .eccv16 import load_model
    from .finetune import finetune
    from .gan_refine import refine
    from .lab import preprocess
    from .metrics import evaluate
    from .onnx import OnnxColorizer

_ERRORS = (
    "ClusterError", "ColorizeError", "DatasetError", "DemoError", "ExportError", "ImageError", "MetricError",
    "ModelError", "ReportError", "RunError")
_OFFERED = dict(
    Colorizer="colorize", OnnxColorizer="onnx", load_model="eccv16", load_photos="dataset", preprocess="lab",
    evaluate="metrics", finetune="finetune", refine="gan_refine") | dict.fromkeys(_ERRORS, "core.checks")

__all__ = ["ColorizationError", *_OFFERED]


def __getattr__(name):
    "Import what the package offers only when it is asked for: PyTorch alone takes a second (PEP 562)."
    if name not in _OFFERED: raise AttributeError(f"module 'colorization' has no attribute {name!r}")
    return getattr(import_module(f".{_OFFERED[name]}", __name__), name)


def __dir__(): return sorted([*__all__, "__version__"])


class _Face(ModuleType):
    "The package. `colorization.finetune` is the function, also once the module of that name has been imported."
    def __setattr__(self, name, value):
        super().__setattr__(name, value.finetune if name == "finetune" and isinstance(value, ModuleType) else value)


sys.modules[__name__].__class__ = _Face
