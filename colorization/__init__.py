__version__ = "0.4.0"

import sys
from importlib import import_module
from inspect import getdoc
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


def _described(value):
    "A function or class whose `help` says what each parameter is: the comments of its signature."
    if (value.__doc__ and "\nParameters:\n" in value.__doc__) or value.__name__ in _ERRORS: return value
    try: from fastcore.docments import docments
    except ImportError: return value  # where photos are coloured without PyTorch
    comments = docments(value.__init__ if isinstance(value, type) else value, returns=False)
    lines = [f"    {name}: {comment}" for name, comment in comments.items() if comment]
    value.__doc__ = "\n".join([getdoc(value), "", "Parameters:", *lines])
    return value


def __getattr__(name):
    "Import what the package offers only when it is asked for: PyTorch alone takes a second (PEP 562)."
    if name not in _OFFERED: raise AttributeError(f"module 'colorization' has no attribute {name!r}")
    return _described(getattr(import_module(f".{_OFFERED[name]}", __name__), name))


def __dir__(): return sorted([*__all__, "__version__"])


class _Face(ModuleType):
    "The package. `colorization.finetune` is the function, also once the module of that name has been imported."
    def __setattr__(self, name, value):
        if name == "finetune" and isinstance(value, ModuleType): value = _described(value.finetune)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
