__version__ = "0.1.0"

from .ground import ColorizationError, check_choice, check_number, on_demand as __getattr__
