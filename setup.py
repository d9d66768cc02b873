"Everything that describes the package stands in settings.ini; this file hands it to setuptools."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
ini = ConfigParser(delimiters=["="])
ini.read(here/"settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]
names = ("bench", "cluster", "demo", "heif", "onnx", "tensorboard", "tiff")
extras = {name: cfg[f"{name}_requirements"].split() for name in names}
developing = [package for name in ("demo", "heif", "onnx", "tensorboard") for package in extras[name]]
licenses = {"mit": "MIT"}
statuses = {"3": "3 - Alpha", "4": "4 - Beta", "5": "5 - Production/Stable"}

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(here/"README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    license=licenses[cfg["license"]],
    keywords=cfg["keywords"],
    classifiers=[
        f"Development Status :: {statuses[cfg['status']]}",
        f"Intended Audience :: {cfg['audience']}",
        f"Natural Language :: {cfg['language']}",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Processing",
    ],
    packages=find_packages(include=["colorization", "colorization.*"]),
    include_package_data=True,
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg["requirements"].split(),
    entry_points={
        "console_scripts": cfg["console_scripts"].splitlines(),
        "nbdev": [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"],  # lets the site link names to their source
    },
    extras_require=extras | {"dev": cfg["dev_requirements"].split() + developing},
    zip_safe=False,
)
