"""One color a policy and one marker a learner, in every figure."""

from hypothesis import given, settings
from hypothesis import strategies as st

import policies
from harness.reporting.render.panels import MAX_LEGEND_ROWS, Panels, add_legend, legend_handles
from harness.reporting.render.style import (
    LEARNER_MARKERS,
    OTHER_COLORS,
    OTHER_MARKERS,
    POLICY_COLORS,
    policy_colors,
    styles_of,
)

LABELS = st.lists(st.text("abcxyz-2", min_size=1, max_size=8), unique=True, max_size=6)


@given(LABELS)
def test_every_policy_of_a_figure_has_a_color_of_its_own(labels):
    names = [*policies.names(), *labels]
    colors = policy_colors(names)
    assert len(set(colors.values())) == len(set(names)) <= len(POLICY_COLORS) + len(OTHER_COLORS)
    assert colors == policy_colors(reversed(names))
    assert {name: colors[name] for name in policies.names()} == POLICY_COLORS


@given(LABELS)
@settings(max_examples=50)
def test_a_label_has_the_same_color_whatever_known_policies_are_beside_it(labels):
    for label in labels:
        assert policy_colors([label]) == {label: policy_colors([*policies.COMPARED, label])[label]}


def test_variants_of_a_learner_have_markers_of_their_own():
    learners = ["maml inner_lr=0.1", "maml inner_lr=0.2", "rl2 (run)", "oracle", "mine", "reptile"]
    styles = styles_of([("gru", learner) for learner in learners])
    markers = [styles["gru", learner].marker for learner in learners]
    assert len(set(markers)) == len(learners) <= len(OTHER_MARKERS)
    assert markers[0] == LEARNER_MARKERS["maml"]
    assert markers[2] == LEARNER_MARKERS["rl2"]
    # The oracle is darker, a control lighter, than the policy's own color.
    shades = {name: styles_of([("gru", name)])["gru", name].color for name in ("rl2", "oracle")}
    assert shades["rl2"].lower() == POLICY_COLORS["gru"].lower() != shades["oracle"]


def test_the_legend_of_many_rows_is_smaller_than_its_panels():
    keys = [(policy, f"learner{n}") for policy in policies.COMPARED for n in range(6)]
    panels, styles = Panels.create(keys), styles_of(keys)
    handles = legend_handles(styles, split=panels.split)
    assert len(handles) == 4 + 6  # a color per policy and a marker per learner, each once
    panels.add_legend(styles)
    panels.figure.draw_without_rendering()
    (legend,) = panels.figure.legends
    assert legend.get_window_extent().height < panels.axes[0].get_window_extent().height
    long = styles_of([("gru", f"maml inner_lr=0.{n} max_grad_norm=0.{n}") for n in range(8)])
    single = Panels.create(list(long))
    add_legend(single.figure, legend_handles(long, split=False))
    single.figure.draw_without_rendering()
    (legend,) = single.figure.legends
    assert legend.get_window_extent().height < 0.5 * single.axes[0].get_window_extent().height
    assert len(handles) / legend._ncols <= MAX_LEGEND_ROWS + 1
