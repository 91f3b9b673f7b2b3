"""Names, settings and options of the registry."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap

import gymnasium
import pytest

import task_distributions

every_name = pytest.mark.parametrize("name", task_distributions.names())


@every_name
def test_settings_are_a_frozen_dataclass_with_defaults_and_described_fields(name: str):
    cls = task_distributions.settings_class(name)
    assert cls.__dataclass_params__.frozen
    assert task_distributions.options(name) == tuple(f.name for f in dataclasses.fields(cls))
    assert "horizon" in task_distributions.options(name)
    (source,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    kinds = [type(part) for part in source.body if not isinstance(part, ast.FunctionDef)]
    assert kinds == [ast.Expr] + [ast.AnnAssign, ast.Expr] * len(dataclasses.fields(cls))
    default = task_distributions.load(name)
    assert task_distributions.load(name, cls()).protocol == default.protocol


@every_name
def test_options_replace_single_settings(name: str):
    settings = task_distributions.settings_class(name)(horizon=5)
    assert task_distributions.load(name, settings).spec.horizon == 5
    assert task_distributions.load(name, settings, horizon=7).spec.horizon == 7


def test_reward_version_and_xml_are_options():
    assert task_distributions.options("metaworld-ml10") == ("horizon", "reward_version")
    assert task_distributions.options("imujoco-halfcheetah") == ("horizon", "xml")
    assert task_distributions.options("imujoco-ant") == ("horizon",)


@every_name
def test_an_unknown_option_is_refused_with_the_choices(name: str):
    with pytest.raises(ValueError, match=rf"{name}\S* has no option 'colour'; choose from: h"):
        task_distributions.load(name, colour=1)


def test_an_unknown_name_is_refused_with_the_choices():
    for function in (
        task_distributions.load,
        task_distributions.options,
        task_distributions.settings_class,
    ):
        with pytest.raises(ValueError, match=r"'no-such'; choose from: .*ant-dir"):
            function("no-such")


def test_settings_of_another_distribution_are_refused():
    with pytest.raises(TypeError, match="PointGoalSettings"):
        task_distributions.load("ant-dir", task_distributions.settings_class("point_goal")())


def test_a_version_is_chosen_by_its_number_and_the_newest_without_one():
    newest, first = task_distributions.load("ant-mass"), task_distributions.load("ant-mass@1")
    assert (newest.name, newest.version) == ("ant-mass", 2)
    assert (first.name, first.version) == ("ant-mass", 1)
    assert newest.tasks("test") == task_distributions.load("ant-mass@2").tasks("test")
    assert task_distributions.load("ant-dir@1").tasks("test")[0].dist == "ant-dir"
    assert "ant-mass@1" not in task_distributions.names()
    with pytest.raises(ValueError, match="no version 3; choose from: ant-mass@1, ant-mass@2"):
        task_distributions.load("ant-mass@3")
    with pytest.raises(ValueError, match="ant-dir has no version 2; choose from: ant-dir@1"):
        task_distributions.load("ant-dir@2")


def test_each_definition_has_one_name_and_stored_names_keep_theirs():
    canonical = {
        "ant-mass": "ant-mass@2",
        "ant-mass@1": "ant-mass@1",
        "ant-dir": "ant-dir",
        "ant-dir@1": "ant-dir",
        "metaworld-ml10@2": "metaworld-ml10",
    }
    assert {name: task_distributions.canonical(name) for name in canonical} == canonical
    # Stored without a version: before there were two.
    assert task_distributions.stored("ant-mass") == "ant-mass@1"
    assert task_distributions.stored("ant-mass@2") == "ant-mass@2"
    assert task_distributions.stored("ant-dir") == "ant-dir"


def test_gymnasium_has_an_id_for_every_version():
    for version in (1, 2):
        env = gymnasium.make(f"task_distributions:MetaRL/ant-mass-v{version}")
        assert env.unwrapped.task.version == version
