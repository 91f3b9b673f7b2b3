"""The comparison as one HTML page: tables, captions and figures."""

from __future__ import annotations

from collections.abc import Sequence

import jinja2

from harness.reporting.render.tables import grids, is_warning
from harness.reporting.stats.comparison import Comparison
from harness.reporting.text import printable

_PAGE = """\
{% macro show(cell) -%}
{{ cell[0] }}{% if cell[1] %}<small>{{ cell[1] }}</small>{% endif %}
{%- endmacro %}
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{{ tables | map(attribute="title") | join(", ") }}</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 75rem; margin: 2rem auto; }
table { border-collapse: collapse; border-block: 2px solid; margin-bottom: 1.5rem; }
caption { text-align: left; font-weight: 600; padding-block: .3rem; }
thead { border-bottom: 1px solid; }
th, td { padding: .25rem .7rem; text-align: right; vertical-align: top; font-weight: 400; }
th:first-child { text-align: left; }
small { display: block; color: #666; }
.warning { color: #b00020; font-weight: 600; }
img { max-width: 100%; }
</style>
</head>
<body>
{% for table in tables %}
<h1>{{ table.title | printable }}</h1>
{% for grid in grids(table) %}
<table>
<caption>{{ grid.title }}</caption>
<thead>
<tr>{% for cell in grid.header %}<th scope="col">{{ show(cell) }}</th>{% endfor %}</tr>
</thead>
<tbody>
{% for row in grid.rows %}
<tr><th scope="row">{{ show(row[0]) }}</th>
{%- for cell in row[1:] %}<td>{{ show(cell) }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
{% endfor %}
{% for text in table.caption %}
<p{% if is_warning(text) %} class="warning"{% endif %}>{{ text | printable }}</p>
{% endfor %}
{% endfor %}
{% for figure in figures %}
<p><img src="{{ figure }}" alt="{{ figure }}"></p>
{% endfor %}
</body>
</html>
"""


def to_html(tables: Sequence[Comparison], figures: Sequence[str] = ()) -> str:
    """Return a page with the tables and their captions, then ``figures`` (relative URLs)."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["printable"] = printable
    template = environment.from_string(_PAGE)
    return template.render(tables=tables, figures=figures, grids=grids, is_warning=is_warning)
