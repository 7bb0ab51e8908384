import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
# The number stands in the package alone, which is not imported here, since what it needs may not be installed yet.
version = re.search(r'^__version__ = "(.+)"$', (here / "deepedit/__init__.py").read_text(encoding="utf-8"), re.M)[1]
formats = ["SimpleITK>=2.3"]
server = ["fastapi>=0.115", "uvicorn>=0.30", "python-multipart>=0.0.13", *formats]

setup(
    name="deepedit",
    version=version,
    description="Interactive 3D segmentation of medical images: automatic, from clicks, and corrected by clicks",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[*find_packages(include=["deepedit", "deepedit.*"]), "deepedit_cli"],
    package_dir={"deepedit_cli": "cli"},
    package_data={"deepedit": ["server/page/*", "server/page/*/*"]},
    install_requires=[
        "torch>=2.4",
        "numpy>=1.26",
        "scipy>=1.11",
        "nibabel>=5.2",
        "tqdm>=4.66",
        "tensorboard>=2.16",
    ],
    extras_require={
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "ruff>=0.17",
            "nbclient>=0.10",
            "nbformat>=5.9",
            "ipykernel>=6.29",
            'triton; sys_platform == "linux" and python_version >= "3.11"',
            # Of the client of MONAI Label, which .ci/run installs without what it asks for itself.
            "requests>=2.31",
            'legacy-cgi; python_version >= "3.13"',
            # Of the page, in Debian's Chromium.
            "playwright>=1.50",
            "axe-playwright-python>=0.1.4",
            *server,
        ],
        "formats": formats,
        "server": server,
        "plot": ["matplotlib>=3.8"],
        "docs": ["mkdocs-material>=9.5", "mkdocstrings[python]>=0.26"],
        "bench": ["monai>=1.6.1", "pytorch-ignite>=0.5", "scikit-image>=0.22"],
    },
    entry_points={
        "console_scripts": [
            "deepedit-train=deepedit_cli.train:main",
            "deepedit-infer=deepedit_cli.infer:main",
            "deepedit-evaluate=deepedit_cli.evaluate:main",
            "deepedit-serve=deepedit_cli.serve:main",
        ]
    },
)
