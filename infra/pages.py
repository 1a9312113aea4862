"""Pages made from templates: one environment for all of them.

Input: a template's name. Does: loads it with escaping on, and refuses names that a page does not get.
Output: a template.
"""

from __future__ import annotations

import jinja2

from infra import charts


def template(name: str) -> jinja2.Template:
    """A template of `infra/templates`; `clock` shows seconds as minutes."""
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("infra", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["clock"] = charts.clock
    return env.get_template(name)
