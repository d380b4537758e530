"""The page in a real browser."""

import io
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.report import write_report
from tests.report.sample import sample_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ACCENT = (15, 118, 110)  # --after of the light page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


def browse(page: Path, profile: Path, *arguments: str) -> str:
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-dev-shm-usage", "--hide-scrollbars", f"--user-data-dir={profile}", *arguments, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(sample_report(), tmp_path_factory.mktemp("report"))[0]


def test_pictures_show(page: Path, tmp_path: Path) -> None:
    shot = tmp_path / "page.png"
    browse(page, tmp_path / "profile", f"--screenshot={shot}", "--window-size=1200,5600")
    pixels = np.asarray(Image.open(io.BytesIO(shot.read_bytes())).convert("RGB"), np.int64)
    accent = np.abs(pixels - np.array(ACCENT)).sum(axis=2) < 12
    rows = np.flatnonzero(accent.sum(axis=1) > 20)
    assert accent.sum() > 50_000  # bars and areas, not a few letters
    assert rows.max() - rows.min() > 3500  # from the headline down to the last plots


@pytest.mark.parametrize("width", [500, 1200])
def test_nothing_is_wider_than_the_page(page: Path, tmp_path: Path, width: int) -> None:
    probe = "<script>document.title = 'measured ' + document.documentElement.scrollWidth</script></body>"
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text(encoding="utf-8").replace("</body>", probe), encoding="utf-8")
    document = browse(probed, tmp_path / "profile", "--dump-dom", f"--window-size={width},900")
    measured = re.search(r"<title>measured (\d+)</title>", document)
    assert measured is not None
    assert int(measured[1]) <= width
