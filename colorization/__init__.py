__version__ = "0.1.0"


def __getattr__(name):
    "`Colorizer`, imported when it is asked for: PyTorch takes seconds."
    if name != "Colorizer": raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .colorize import Colorizer
    return Colorizer
