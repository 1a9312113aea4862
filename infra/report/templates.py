"""Pages made from templates: one environment for all of them.

Input: a template's name. Does: loads it with escaping on, and refuses names that a page does not get.
Output: a template.
"""

from __future__ import annotations

import re

import jinja2
from markupsafe import Markup, escape

from adaptfocus.infra.report import charts


def template(name: str) -> jinja2.Template:
    """A template of `infra/templates`; `clock` shows seconds as minutes, `breakable` breaks dotted names."""
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("adaptfocus.infra", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["clock"] = charts.clock
    env.filters["breakable"] = _breakable
    return env.get_template(name)


def _breakable(name: str) -> Markup:
    """A dotted name that may be broken behind its dots and underscores."""
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[._])", name))
