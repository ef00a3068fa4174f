"""Programs and libraries from PyPI."""

import shutil

from said import run


def virtual_environment(venv, packages):
    """A virtual environment with exactly these packages, made once; its programs."""
    stamp, wanted = venv / "is", "".join(packages)
    if not stamp.is_file() or stamp.read_text() != wanted:
        shutil.rmtree(venv, ignore_errors=True)
        run("/usr/bin/python3", "-m", "venv", venv)
        run(venv / "bin/pip", "install", "-q", "--disable-pip-version-check", *packages)
        stamp.write_text(wanted)
    return venv / "bin"
