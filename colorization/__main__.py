"`python -m colorization`, for programs that start modules, such as `accelerate launch -m`."
import sys

from .cli import main

if __name__ == "__main__": sys.exit(main())
