"""Packages carried to a machine without a network: POSESCALE_WHEELS names a folder made by `campaign --pack`.

Runs before any of those packages is imported, so it needs the standard library alone.
"""

import atexit
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

VARIABLE = "POSESCALE_WHEELS"


def unpack() -> None:
    """Put the wheels' content first on the import path, of this process and of those it starts."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        return
    wheels = sorted(Path(folder).glob("*.whl"))
    if not wheels:
        sys.exit(
            f"posescale: {VARIABLE} is {folder}, but there are no wheels; make them by `posescale campaign --pack`"
        )
    site = tempfile.mkdtemp(prefix="posescale-wheels-")
    atexit.register(shutil.rmtree, site, ignore_errors=True)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    sys.path.insert(0, site)
    os.environ["PYTHONPATH"] = os.pathsep.join(p for p in (site, os.environ.get("PYTHONPATH")) if p)
