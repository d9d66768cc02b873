__version__ = "0.3.0"

from .ground import (
    ENDINGS, HEIF_ENDINGS, MACHINE, SIGNATURE, ColorizationError, ColorizeError, DatasetError,
    alone, cached, check_choice, check_dataset, check_number, check_writable, fetch, number_problem, photo_names, photos_in, pretrained,
    read_tensors, replacing, sha256, write_csv, write_json, write_png, write_tensors,
    on_demand as __getattr__)
