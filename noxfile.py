"""What is asked before a release: every Python, the oldest dependencies, known holes, a bill of materials, the wheel.

`pip install nox uv && nox` does all; `nox -s lowest` one. The results of `sbom` and `wheel` lie in `dist/`.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.4"
nox.options.default_venv_backend = "uv"
nox.options.error_on_missing_interpreters = False  # said as skipped

LOCK = "requirements-dev.txt"
PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
EPOCH = "1577836800"  # 2020-01-01: zip files know no time before 1980


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The default tests with the newest dependencies."""
    session.install("--upgrade", "-e", ".[test]")
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """The default tests with the oldest dependencies that pyproject.toml allows."""
    session.install("--resolution", "lowest-direct", "-e", ".[test]")
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session(default=False)
def lock(session: nox.Session) -> None:
    """Pin what the tests need, for every Python and system, with hashes and without a registry's address."""
    command = ["uv", "pip", "compile", "pyproject.toml", "--extra", "test", "--universal", "--python-version", "3.10"]
    options = ["--generate-hashes", "--no-annotate", "--no-emit-index-url", "--upgrade", "-o", LOCK]
    environment = {"UV_CUSTOM_COMPILE_COMMAND": "nox -s lock"}
    session.run(*command, *options, "--quiet", external=True, env=environment)


@nox.session
def audit(session: nox.Session) -> None:
    """Known holes in what is pinned, as the Python package index knows them; fails where it does not know a package."""
    session.install("pip-audit")
    session.run("pip-audit", "--strict", "--disable-pip", "--require-hashes", "-r", LOCK)


@nox.session
def sbom(session: nox.Session) -> None:
    """What a plain installation with the pinned versions brings, as CycloneDX."""
    session.install("-c", LOCK, ".")
    tool = session.create_tmp()
    session.run("uv", "venv", "--quiet", "--clear", tool, external=True)
    session.run("uv", "pip", "install", "--quiet", "--python", tool, "cyclonedx-bom", external=True)
    Path("dist").mkdir(exist_ok=True)
    describe = [f"{tool}/bin/python", "-m", "cyclonedx_py", "environment", "--output-reproducible"]
    about = ["--pyproject", "pyproject.toml", "-o", "dist/sbom.cdx.json"]
    session.run(*describe, *about, session.virtualenv.location, external=True)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build twice, in folders of different names; the same bytes must come of it."""
    session.install("hatchling")
    hashes = []
    for name in ("first", "second"):
        folder = Path(session.create_tmp(), name)
        shutil.rmtree(folder, ignore_errors=True)
        ignore = shutil.ignore_patterns(".[!c]*", ".cache", "dist", "runs")  # `.ci` stays
        shutil.copytree(".", folder, copy_function=shutil.copy, ignore=ignore)
        with session.chdir(folder):
            session.run("hatchling", "build", "-d", "dist", env={"SOURCE_DATE_EPOCH": EPOCH})
        hashes.append({p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((folder / "dist").iterdir())})
    if hashes[0] != hashes[1]:
        session.error(f"two builds differ: {hashes}")
    shutil.copytree(folder / "dist", "dist", dirs_exist_ok=True)
    Path("dist/SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in hashes[0].items()))
