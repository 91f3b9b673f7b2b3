"""The HTML report: complete, harmless, offline, the same bytes from the same files."""

import base64
import dataclasses
import hashlib
import html.parser
import math
import re
import shutil

import pytest

from harness.cli import main
from harness.reporting.rebuild import rebuild, report
from harness.reporting.render import html as page
from harness.reporting.render.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MAX_VERTICES,
    RIGHT,
    TOP,
    WIDTH,
    Axes,
    Line,
    chart,
)
from harness.reporting.render.html import Media, RunReport, to_html
from harness.reporting.render.style import MARKERS, styles_of
from harness.reporting.store.manifest import Manifest
from harness.reporting.store.records import RunFolder
from harness.types import EvalRecord
from tests.harness.reporting.synthetic_run import (
    curve_of,
    expected_cells,
    make_run,
    make_swept_run,
)

FILM = b"ftypmp42" + b"\0" * 90
HOSTILE = "</script><script>alert(1)</script><b onmouseover=x>\x1b[2J\"'"
LONG_AXES = Axes("title", "x", "y")


class Document(html.parser.HTMLParser):
    """Every tag with its attributes, and the text of the scripts and of the page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.text, self.inside = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img", "br"):
            self.inside.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.inside.pop() == tag

    def handle_data(self, data):
        (self.scripts if self.inside[-1:] == ["script"] else self.text).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """A run with an invalid episode, an event and a film, and its report."""
    run = make_run(tmp_path_factory.mktemp("report") / "run").path
    RunFolder(run).event("trial_died", cell="ssm", cause=HOSTILE)
    (run / "clips/task-0").mkdir(parents=True)
    (run / "clips/task-0/shots-0.mp4").write_bytes(FILM)
    rebuild(run)
    return run, (run / "report.html").read_text(encoding="utf-8")


def test_it_shows_tables_tasks_figures_films_cells_events_and_settings(complete):
    document = Document(complete[1])
    text = " ".join(" ".join(document.text).split())
    for part in (
        "-8.0", "[-9.2, -6.8]", "+15.0", "30.0k", "zero-action", "-12.0",  # the tables
        "ssm, maml, gradient: return on each test task, mean of 3 seeds", "test/3",
        "point_goal.gru.maml.s2", "60 s", "1 trial_died", '"query_episodes": 2', "toy, horizon 100",
    ):  # fmt: skip
        assert part in text, part
    images = document.all("img")
    (film,) = document.all("video")
    assert film["src"] == f"data:video/mp4;base64,{base64.b64encode(FILM).decode()}"
    assert "media-src data:" in complete[1]
    assert len(images) > 1, "the figures that the page does not draw itself are inside"
    assert complete[1].count("<polyline") > 2 * 2
    assert "gru, maml, gradient: +5.0" not in text
    titles = re.findall(r"<title>([^<]+)</title>", complete[1])
    assert "ssm, maml, gradient: -3.00 [-4.24, -1.76] after 5 shots" in titles
    assert "gru, seed 2: -15.0 after adaptation, 30.0k steps" in titles


def test_it_needs_no_other_file_and_no_network(complete):
    document = Document(complete[1])
    for tag, attributes in document.tags:
        for name in ("src", "href", "xlink:href", "data", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:image/", "data:video/")), (
                tag,
                attributes,
            )
    assert "url(" not in complete[1]
    assert "@import" not in complete[1]


def test_its_policy_allows_its_own_script_alone(complete):
    document = Document(complete[1])
    (script,) = document.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(
        m["content"] for m in document.all("meta") if "content" in m and "src" in m["content"]
    )
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2]


def test_links_inside_lead_somewhere_and_ids_are_unique(complete):
    document = Document(complete[1])
    ids = [attributes["id"] for _, attributes in document.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {link["href"][1:] for link in document.all("a")}
    assert targets <= set(ids)
    assert len(targets) >= 2


def test_figures_and_tables_have_names_for_who_cannot_see_them(complete):
    document = Document(complete[1])
    assert document.all("html")[0]["lang"] == "en"
    assert all(image["alt"] for image in document.all("img"))
    charts = [chart for chart in document.all("svg") if "aria-hidden" not in chart]
    assert all(chart["aria-label"] for chart in charts)
    assert all(heading["scope"] in ("row", "col") for heading in document.all("th"))
    scrolling = [a for tag, a in document.tags if tag == "div" and a.get("class") == "scroll"]
    assert len(scrolling) == len(document.all("table")) + len(charts)
    assert all(region["aria-label"] and region["tabindex"] == "0" for region in scrolling)


def test_a_line_has_the_marker_of_its_learner(complete):
    styles = styles_of([("gru", "maml"), ("gru", "rl2")]).values()
    lines = [Line(s.label, s.color, [(0, 1)], ["x"], marker=s.marker) for s in styles]
    drawn = chart(LONG_AXES, lines, {})
    assert [MARKERS[path.marker] for path in drawn.paths] == ["o", "s"]
    assert [MARKERS[marker] for *_, marker in drawn.legend] == ["o", "s"]
    document = Document(complete[1])
    shapes = [path["d"] for path in document.all("path")]
    assert len(set(shapes)) == len(MARKERS)
    assert {use["href"] for use in document.all("use")} <= {f"#m{n}" for n in range(len(shapes))}


def test_the_same_files_give_the_same_bytes_wherever_they_lie(complete, tmp_path, monkeypatch):
    shutil.copytree(complete[0], tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    assert report(tmp_path / "elsewhere") == complete[1] == report(complete[0])


def test_names_reasons_and_settings_are_harmless(tmp_path):
    cells = expected_cells()
    run = make_run(tmp_path / "run", failed=[cells[0].id], reason=HOSTILE).path
    manifest = Manifest.load(run)
    RunFolder(run).event(HOSTILE, **{HOSTILE: HOSTILE})
    (section,) = sections_of(run)
    frame = section.table.frame.copy()
    frame.loc[0, ["policy", "adapter"]] = HOSTILE
    table = dataclasses.replace(
        section.table, frame=frame, title=HOSTILE, caption=(HOSTILE, f"FAILED: {HOSTILE}")
    )
    manifest = manifest.model_copy(update={"command": (HOSTILE,), "given": {HOSTILE: HOSTILE}})
    media = [Media(HOSTILE, HOSTILE, "video/mp4", FILM)]
    text = to_html(
        [dataclasses.replace(section, table=table)],
        [RunReport(HOSTILE, manifest, ({"kind": HOSTILE, HOSTILE: HOSTILE},))],
        media=media,
    )
    document = Document(text)
    assert len(document.all("script")) == 1
    assert not document.all("b")
    assert not [name for _, a in document.tags for name in a if name.startswith("on")]
    assert "\x1b" not in text
    assert text.count("&lt;script&gt;") > 8


def sections_of(run):
    """The sections that a run's report is made of."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "harness.reporting.rebuild.to_html", lambda parts, *_, **__: seen.extend(parts)
        )
        report(run)
    return seen


def test_failed_stopped_and_missing_cells_are_listed_as_faults(tmp_path):
    cells = expected_cells()
    run = make_run(tmp_path / "run", failed=[cells[0].id], pending=[cells[1].id]).path
    text = report(run)
    faults = text.partition('id="run1-faults"')[2].partition("<h2>")[0]
    assert f"<dt>{cells[0].id}</dt><dd>diverged</dd>" in faults
    assert f"<dt>{cells[1].id}</dt><dd>no result yet</dd>" in faults
    assert '<a class="warning" href="#run1-faults">2</a>' in text
    assert 'class="warning">INCOMPLETE' in text


def test_media_beyond_the_limit_are_named_instead(complete, monkeypatch):
    monkeypatch.setattr(page, "MAX_MEDIA_BYTES", len(FILM))
    document = Document(report(complete[0]))
    assert (len(document.all("video")), len(document.all("img"))) == (1, 0)
    assert "too large for this page: figures/" in report(complete[0])


def test_every_split_has_its_charts_and_tasks(tmp_path):
    run = make_run(tmp_path / "run")
    for cell in expected_cells():
        folder = run.cell(cell.id)
        rows = folder.read_records().to_pandas()
        both = [*rows.to_dict("records"), *rows.assign(split="train").to_dict("records")]
        folder.write_records([EvalRecord(**row) for row in both])
    text = report(run.path)
    assert "return on train tasks" in text
    assert "Train tasks, one by one" in text


def test_scores_on_validation_tasks_have_a_chart_of_their_own(tmp_path):
    run = make_run(tmp_path / "run")
    cell = expected_cells()[0]
    scored = [
        dataclasses.replace(row, validation={"return_0": -9.0, "return_1": -5.0, "return_10": -2.0})
        for row in curve_of(cell)
    ]
    run.cell(cell.id).write_curve([*scored[:2], *curve_of(cell)[2:]])
    text = report(run.path)
    assert "return on validation tasks" in text
    found = re.findall(r"<title>(ssm, seed 0: [^<]* on validation [^<]*)</title>", text)
    assert found == [
        f"ssm, seed 0: {y} on validation tasks after {shots} shots, {steps} steps"
        for y, shots in (("-9.00", 0), ("-2.00", 10))
        for steps in ("10.0k", "20.0k")
    ]


def test_one_command_reports_one_run_or_several(complete, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "other", seeds=(3, 4))
    assert main.main(["report", str(complete[0])]) == 0
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == complete[1]
    assert main.main(["report", str(complete[0]), "other", "--out", "both.html"]) == 0
    text = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert "maml (other)" in text
    assert len(re.findall("<h2>Manifest</h2>", text)) == 2
    assert main.main(["report", "nowhere"]) == 2
    assert main.main(["report", str(complete[0]), "--out", "no/folder.html"]) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "both.html", "other"}


def test_charts_leave_out_what_is_not_finite():
    line = Line("a", "#000", [(0, 1), (1, math.nan), (2, 3)], ["x", "y", "z"], [(0, 2)] * 3)
    drawn = chart(LONG_AXES, [line], {"none": math.nan, "line": 2.0})
    (path,) = drawn.paths
    assert [mark.tip for mark in path.marks] == ["x", "z"]
    assert [line.text for line in drawn.references] == ["line"]
    assert chart(LONG_AXES, [Line("a", "#000", [(0, math.nan)], [""])], {}) is None


def test_charts_put_the_largest_value_on_top_and_stay_inside():
    line = Line("a", "#000", [(0, -5.0), (10, 5.0)], ["low", "high"])
    drawn = chart(LONG_AXES, [line], {})
    low, high = drawn.paths[0].marks
    assert LEFT < low.x < high.x < WIDTH - RIGHT
    assert TOP < high.y < low.y < HEIGHT - BOTTOM
    zero = next(tick for tick in drawn.y_ticks if tick.text == "0")
    assert zero.at == pytest.approx((low.y + high.y) / 2, abs=0.1)


def test_long_lines_are_thinned_and_keep_their_ends():
    points = [(float(at), float(at % 7)) for at in range(5001)]
    drawn = chart(LONG_AXES, [Line("a", "#000", points, [str(at) for at in range(5001)])], {})
    (path,) = drawn.paths
    assert len(path.vertices.split()) <= MAX_VERTICES + 1
    assert (path.marks[0].tip, path.marks[-1].tip) == ("0", "5000")


@pytest.mark.slow
def test_sixty_cells_stay_below_eight_megabytes(tmp_path):
    run = make_swept_run(tmp_path / "run", values=tuple(range(10)))
    assert len(Manifest.load(run).cells) == 60
    rebuild(run)
    assert (run / "report.html").stat().st_size < 8_000_000


@pytest.mark.slow
def test_it_sorts_hides_and_explains_in_a_real_browser(complete, browser):
    window = browser.new_page(viewport={"width": 390, "height": 800})
    errors, requests = [], []
    window.on("pageerror", lambda error: errors.append(str(error)))
    window.on("console", lambda message: errors.append(message.text))
    window.on("request", lambda request: requests.append(request.url))
    window.goto((complete[0] / "report.html").as_uri())
    assert window.evaluate("document.documentElement.scrollWidth") == 390

    table = window.locator("table", has=window.locator("caption", has_text="Return")).first
    heading = table.locator("th", has_text="5 shots")
    places = []
    for way in ("descending", "ascending"):
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == way
        shown = table.locator("tbody tr").evaluate_all(
            "(rows, at) => rows.map(r => parseFloat(r.cells[at].innerText.replace('−', '-')))",
            heading.evaluate("cell => cell.cellIndex"),
        )
        assert len(shown) >= 5
        places.append(shown)
    assert places[0] == sorted(places[0], reverse=True)
    assert places[1] == sorted(places[0])

    figure = window.locator("figure", has=window.locator("svg")).first
    mark = figure.locator(".mark", has=window.locator("line")).first
    mark.scroll_into_view_if_needed()
    mark.locator(".hit").hover(force=True)
    assert window.locator("#tip").inner_text() == mark.get_attribute("aria-label")
    entry = figure.locator(".legend button").first
    lines = figure.locator('.series[data-series="0"]')
    assert lines.first.is_visible()
    entry.click()
    assert not lines.first.is_visible()
    assert entry.get_attribute("aria-pressed") == "false"

    assert window.locator("details[open]").count() == 0
    window.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert window.locator("details:not([open])").count() == 0
    window.close()
    assert errors == []
    assert {url.partition(":")[0] for url in requests} <= {"file", "data"}
