"""Fields, commands and updates of the page, tested without a browser."""

import os
import re
from types import SimpleNamespace

import pytest

gr = pytest.importorskip("gradio")
fastapi = pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from harness.app import forms, page, view
from harness.app.app_state import AppState
from harness.app.cards import card
from harness.app.server import serve_reports
from harness.cli import parser
from harness.config.components import fields
from tests.harness.reporting.synthetic_run import make_run


def checkpoint(storage, run):
    path = (
        storage / run / "cells" / "a.gru.maml.s0" / "checkpoints" / "iteration-000001.safetensors"
    )
    path.parent.mkdir(parents=True)
    path.touch()
    return str(path)


def given(update, name):
    return getattr(update, "constructor_args", update).get(name)


CHOICES = {
    "task-dist": "halfcheetah-vel",
    "policy": ["gru", "wide=ssm"],
    "learner": ["maml", "rl2"],
    "preset": "smoke",
    "adapter": "",
}


def test_every_setting_of_what_is_chosen_has_a_field():
    groups = forms.settings(CHOICES)
    config = parser.load_config(
        [
            "--task-dist",
            "halfcheetah-vel",
            "--policy",
            "gru",
            "wide=ssm",
            "--learner",
            "maml",
            "rl2",
        ]
    )
    for family in (config.policy, config.learner):
        for label, part in family.items():
            (own,) = (flags for title, flags in groups.items() if f" {label}" in title)
            names = [flag.paths[0][-1] for flag in own]
            assert names == list(fields(type(part.settings))), label
    env = {flag.paths[0][-1] for flag in groups["task distribution halfcheetah-vel"]}
    assert env == fields(type(config.env)).keys()
    with pytest.raises(ValueError, match="gruu"):
        forms.settings(CHOICES | {"policy": ["gruu"]})


def test_filled_fields_become_flags_and_empty_ones_do_not(tmp_path):
    known = [*forms.main_flags(), *(f for group in forms.settings(CHOICES).values() for f in group)]
    filled = {
        "env-steps": "5k", "few-shot": "1, 2", "seed": "3 4", "backend": "local",
        "wide.hidden-dim": "16", "wide.residual": "off", "maml.outer": "trpo", "horizon": " 20 ",
        "normalize-obs": "on", "splits": "test ood",
    }  # fmt: skip
    values = {flag.names[0]: "" for flag in known} | CHOICES | filled | {"mlp.hidden-dim": "8"}
    folder, command = forms.train_command(values, tmp_path)
    assert command[0] == "harness.run"
    config = parser.load_config(command[1:])
    assert (config.train.env_steps, config.evaluation.few_shot, config.seed) == (
        5000,
        (1, 2),
        (3, 4),
    )
    assert (config.policy["wide"].settings.hidden_dim, config.env.horizon) == (16, 20)
    assert config.policy["wide"].settings.residual is False
    assert config.policy["gru"].settings.hidden_dim != 16
    assert config.learner["maml"].settings.outer == "trpo"
    assert config.evaluation.splits == ("test", "ood")
    assert (config.execution.name, config.execution.checkpoint_every) == (folder.name, 1)
    assert len([word for word in command if word.startswith("--")]) == 4 + len(filled) + 3
    for wrong in ({"policy": []}, {"seed": "'1"}, {"few-shot": "one"}, {"horizon": "--help"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            forms.train_command(values | wrong, tmp_path)


@pytest.mark.parametrize("chosen", ["", "/a/chosen/one", None])
def test_a_run_that_ends_selects_its_checkpoint_unless_one_is_chosen(tmp_path, chosen):
    own = checkpoint(tmp_path, "own")
    checkpoint(tmp_path, "written-later")
    now = {"training": (tmp_path / "own", False, ())}
    before = {"training": (tmp_path / "own", True, ())}
    update = page._refresh_policies(AppState(tmp_path), before, now, chosen)
    assert len(given(update, "choices")) == 2 + len(forms.zoo())
    assert given(update, "value") == (None if chosen else own)


def test_a_run_without_a_checkpoint_selects_none(tmp_path):
    checkpoint(tmp_path, "other")
    now, before = ({"training": (tmp_path / "own", on, ())} for on in (False, True))
    update = page._refresh_policies(AppState(tmp_path), before, now, None)
    assert not given(update, "value")


def test_a_run_that_cannot_be_read_is_reported_beside_its_status(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("<half a manifest")
    state, now = AppState(tmp_path), {}
    ended = {"running": False, "stopping": False, "seconds": 3.0, "exit_code": 0}
    state.training = SimpleNamespace(folder=tmp_path / "run", **ended)
    status, _, cells, *_ = page._refresh_training(state, {}, now)
    assert given(status, "value") == "Complete after 0:03: run"
    assert given(cells, "value").startswith("Error: ")
    assert "run.json" in given(cells, "value")
    again, unchanged, *_ = page._refresh_training(state, now, {})
    assert again == unchanged == gr.skip()


def test_policies_are_labelled_by_cell_and_run(tmp_path):
    for run in ("a", "b"):
        checkpoint(tmp_path, run)
    labels = [label for label, _ in page._policies(AppState(tmp_path))]
    assert sorted(labels[:2]) == ["a.gru.maml.s0 (a)", "a.gru.maml.s0 (b)"]
    assert labels[2:]
    assert all(label.startswith("zoo: ") for label in labels[2:])


def test_reports_of_runs_and_of_their_comparison_are_served(tmp_path):
    runs = [make_run(tmp_path / name).path for name in ("one", "two")]
    (runs[0] / "report.html").write_text("an older report")
    os.utime(runs[0] / "report.html", (0, 0))
    server = fastapi.FastAPI()
    serve_reports(server)
    client = TestClient(server)
    for chosen in (runs[:1], runs):
        frame = view.report_frame([str(run) for run in chosen])
        (address,) = re.findall(r'<iframe src="([^"#]*)', frame)
        answer = client.get(address.replace("&amp;", "&"))
        assert answer.status_code == 200
        assert "sandbox" in answer.headers["content-security-policy"]
        assert "point_goal" in answer.text
        assert ("ssm (two)" in answer.text or "maml (two)" in answer.text) == (chosen == runs)
    missing = client.get("/report", params={"run": "<nowhere>"})
    assert missing.status_code == 422
    assert "&lt;nowhere&gt;" in missing.text


def test_the_card_of_a_distribution_is_its_page_or_its_docstring(tmp_path):
    assert "/gradio_api/file=" in card("ant-dir@1")
    assert "](../" not in card("ant-dir")
    own = tmp_path / "mine.py"
    own.write_text('def far_goals():\n    """Goals far away."""\n')
    assert card(f"{own}:far_goals") == "# far_goals\n\nGoals far away."
    assert card("no-such-distribution") == ""
