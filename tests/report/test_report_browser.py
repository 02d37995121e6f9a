"""The page in a real browser: the charts are drawn and no script fails."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_sample import write_json
from report_sample_evaluation import flips, transfer, write_evaluation
from report_sample_search import build_search

from wiry.report.page import write_report

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=5000",
    "--enable-logging=stderr",
)


def browse(page: Path, profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None, "the test is skipped without a browser"
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.skipif(BROWSER is None, reason="no chromium on PATH")
def test_a_browser_draws_every_chart_and_no_script_fails(tmp_path):
    page = write_report(build_search(tmp_path / "search"))
    done = browse(page, tmp_path / "profile", "--dump-dom")
    charts = page.read_text(encoding="utf-8").count('<figure class="chart"')
    drawn = re.findall(r'class="plot js-plotly-plot".*?</figure>', done.stdout, re.DOTALL)
    assert charts == len(drawn) == 7
    assert all('class="main-svg"' in chart for chart in drawn)
    assert done.stdout.count('class="point"') >= 18  # the candidates' markers among them
    assert "@series" not in re.sub(r"<script.*?</script>", "", done.stdout, flags=re.DOTALL)
    assert "CONSOLE" not in done.stderr

    shot = tmp_path / "shot.png"
    browse(page, tmp_path / "profile", f"--screenshot={shot}", "--window-size=1280,2400")
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[:2] == (2400, 1280)
    lower = pixels[1200:]  # below the texts and tables: the charts
    assert len(np.unique(lower.reshape(-1, 3), axis=0)) > 50


@pytest.mark.skipif(BROWSER is None, reason="no chromium on PATH")
def test_a_browser_draws_the_charts_of_an_evaluation(tmp_path):
    root = write_evaluation(tmp_path / "evaluation-net-0a1b2c3d")
    write_json(root / "flips.json", flips())
    write_json(root / "transfer.json", transfer())
    done = browse(write_report(root), tmp_path / "profile", "--dump-dom")
    drawn = re.findall(r'class="plot js-plotly-plot".*?</figure>', done.stdout, re.DOTALL)
    assert len(drawn) == 5  # attacks, curve, classes, flips, transfer
    assert all('class="main-svg"' in chart for chart in drawn)
    assert "CONSOLE" not in done.stderr
