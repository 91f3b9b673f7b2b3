"""Names, settings and options of the registry."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap

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
    with pytest.raises(ValueError, match=f"{name} .*'colour'; choose from: horizon"):
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
