"""The report's own script, in Chromium and under the page's own policy: it sorts, filters, enlarges."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from adaptfocus.infra.report.data import ReportData
from adaptfocus.infra.report.page import render_report
from tests.infra.report.browser import open_page
from tests.infra.report.pages import Page, sample
from tests.infra.report.test_verdict import rows, scored, twenty

# What a reader does, one step after the other. The title of the page then gives the results.
READER = """addEventListener('load', () => {
  const out = [], table = document.querySelector('#classes table'), names = () =>
    [...table.tBodies[0].rows].filter(r => !r.hidden).map(r => r.cells[0].textContent.trim()).join(',');
  const heads = [...table.querySelectorAll('thead button')];
  heads[1].click(); out.push(names());
  heads[1].click(); out.push(names());
  heads[0].click(); out.push(names());
  out.push(heads[0].closest('th').getAttribute('aria-sort'));
  const field = document.querySelector('#classes input[type=search]');
  field.value = 'class 10'; field.dispatchEvent(new Event('input')); out.push(names());
  const picture = document.querySelector('figure button');
  picture.focus(); out.push(document.activeElement === picture);
  picture.click(); const dialog = document.querySelector('dialog');
  out.push(dialog.open, dialog.querySelector('img').src.slice(0, 15));
  dialog.querySelector('button').click(); out.push(dialog.open);
  document.title = out.join(' | ');
})"""


@pytest.fixture
def page() -> str:
    import numpy as np

    names = ["b", "a", "class 1", "class 10", "class 2", "c"]
    aps = dict(zip(names, (0.5, 0.1, 0.3, 0.2, 0.4, 0.6), strict=True))
    counts = dict(zip(names, (9, 100, 20, 3, 1, 7), strict=True))
    run = replace(rows("Ours", [0.5])[0], evaluated=scored(0.5, 0.01, class_ap=aps, class_positives=counts))
    video = sample(run.run, "v", np.random.default_rng(0))
    return render_report(ReportData("t", "", "", [run], samples=[video]))


def with_script(page: str, script: str) -> str:
    """The page as it is, policy and all; only this script is allowed besides."""
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    changed = page.replace("script-src '", f"script-src 'sha256-{allowed}' '", 1)
    return changed.replace("</body>", f"<script>{script}</script></body>")


def title_of(page: str, folder: Path, *flags: str) -> str:
    """The title that the page has once its scripts have run."""
    (folder / "page.html").write_text(page, encoding="utf-8")
    dom = open_page((folder / "page.html").as_uri(), folder / "profile", "light", "--dump-dom", *flags)
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title
    return title[1]


@pytest.mark.chromium
def test_a_reader_sorts_filters_and_enlarges(page: str, tmp_path: Path) -> None:
    assert title_of(with_script(page, READER), tmp_path).split(" | ") == [
        "a,class 1,b,c,class 10,class 2",  # by test videos: 100, 20, 9, 7, 3, 1; as numbers, not as words
        "class 2,class 10,c,b,class 1,a",
        "a,b,c,class 1,class 2,class 10", "ascending",
        "class 10", "true", "true", "data:image/png;", "false",
    ]  # fmt: skip


@pytest.mark.chromium
def test_no_script_but_our_own_runs(page: str, tmp_path: Path) -> None:
    """Should a name ever get through unescaped, the policy is what stops it."""
    hostile = page.replace("</body>", "<script>document.title = 'ran'</script></body>")
    assert title_of(hostile, tmp_path) == "t"
    ours = with_script(page, "document.title = document.querySelectorAll('dialog').length")
    assert title_of(ours, tmp_path) == "1", "our own did"


def test_the_page_is_whole_without_its_script(page: str) -> None:
    """Buttons and fields, which do nothing without it, are made by it."""
    found = Page(page)
    assert not [tag for tag, _ in found.elements if tag in ("button", "input", "dialog")]
    assert found.all("tr")
    body = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(body) == 1
    wanted = base64.b64encode(hashlib.sha256(body[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{wanted}'\">" in page


@pytest.mark.chromium
def test_a_page_of_twenty_runs_stays_short(tmp_path: Path) -> None:
    """It was 59,000 pixels: every run had its column, its curves and its videos."""
    runs, names = twenty(), [f"class {n}" for n in range(157)]
    facts = {"class_ap": dict.fromkeys(names, 0.5), "class_positives": dict.fromkeys(names, 9)}
    runs = [replace(r, evaluated=r.evaluated and replace(r.evaluated, **facts)) for r in runs]
    page = render_report(ReportData("t", "", "", runs, ledger=[("Clips planned", [1] * 20)]))
    assert len(Page(page).all("table")) == 3
    measure = "addEventListener('load', () => document.title = document.documentElement.scrollHeight)"
    assert 1000 < int(title_of(with_script(page, measure), tmp_path, "--window-size=1400,900")) < 5000
