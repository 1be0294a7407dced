"""The README's own examples: they run, and a type checker that finds the package installed has nothing to say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

import realtime_ser

README = Path(__file__).resolve().parents[1] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_examples_run(
    demo: tuple[NDArray[np.int16], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    samples, rate_hz = demo
    soundfile.write("interview.wav", soxr.resample(samples, rate_hz, 48_000), 48_000)  # the rate that the example names
    for example in EXAMPLES:
        exec(example, {"packet": np.zeros(160, np.int16)})
    assert re.search(r"^ *\d+\.\d\d s  neutral  \d+%$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.slow
def test_the_examples_type_check_where_the_package_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    venv.create(tmp_path / "venv", symlinks=True)
    (installed,) = (tmp_path / "venv").rglob("site-packages")
    package = Path(realtime_ser.__file__).parent
    shutil.copytree(package, installed / package.name, ignore=shutil.ignore_patterns("data", "__pycache__"))
    (installed / "others.pth").write_text(sysconfig.get_path("purelib"))
    program = "import numpy as np\npacket = np.zeros(160, np.int16)\n" + "".join(EXAMPLES)
    (tmp_path / "program.py").write_text(program)
    (tmp_path / "mypy.ini").write_text("[mypy-soundfile]\nignore_missing_imports = true\n")  # not ours
    python = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.stdout.startswith("Success"), done.stdout + done.stderr
