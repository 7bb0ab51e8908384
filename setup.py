import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
# The number stands in the package alone, which is not imported here, since what it needs may not be installed yet.
version = re.search(r'^__version__ = "(.+)"$', (here / "deepedit/__init__.py").read_text(encoding="utf-8"), re.M)[1]
completion = ["argcomplete>=3"]
# Earlier versions read a NRRD file of the space left-anterior-superior mirrored.
formats = ["SimpleITK>=2.5.6"]
dicom = ["highdicom>=0.28", "dicomweb-client>=0.60", *formats]
server = ["fastapi>=0.115", "uvicorn>=0.30", "python-multipart>=0.0.13", *formats]

setup(
    name="deepedit",
    version=version,
    description="Interactive 3D segmentation of medical images: automatic, from clicks, and corrected by clicks",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["medical imaging", "interactive segmentation", "deep learning", "3D Slicer", "MONAI Label", "PyTorch"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Healthcare Industry",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Processing",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    packages=[*find_packages(include=["deepedit", "deepedit.*"]), "deepedit_cli"],
    package_dir={"deepedit_cli": "cli"},
    package_data={"deepedit": ["py.typed", "server/page/*", "server/page/*/*"], "deepedit_cli": ["py.typed"]},
    install_requires=[
        "torch>=2.4",
        "numpy>=1.26",
        "scipy>=1.11.1",
        "nibabel>=5.2",
        "tqdm>=4.66",
        "tensorboard>=2.20",  # the first that brings Pillow, which draws the pictures
    ],
    extras_require={
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "ruff>=0.17",
            "mypy>=2.0",
            "scipy-stubs>=1.15",
            "types-tqdm>=4.66",
            "build>=1.2",
            "setuptools>=70.1",  # which tests build a wheel with
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
            *completion,
            *server,
            *dicom,
            "dcmqi>=1.5",
        ],
        "formats": formats,
        "dicom": dicom,
        "server": server,
        "plot": ["matplotlib>=3.8"],
        "completion": completion,
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
