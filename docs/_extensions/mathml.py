"""Formulas as MathML, which browsers show by themselves: no script, no font and nothing from a network.

Docutils translates them; it comes with Sphinx.
"""

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger


def _formula(translator: Any, node: nodes.Element, *, block: bool) -> None:
    """Write a formula; one that cannot be translated is a warning, and so fails the build."""
    text = node.astext()
    try:
        markup = tex2mathml(text, as_block=block)
    except MathError as error:
        getLogger(__name__).warning("formula %r: %s", text, error, location=node)
        markup = f"<code>{translator.encode(text)}</code>"
    number = f'<span class="eqno">({node["number"]})</span>' if node.get("number") else ""
    translator.body.append(f'<div class="formula">{number}{markup}</div>\n' if block else markup)
    raise nodes.SkipNode


def inline(translator: Any, node: nodes.Element) -> None:
    """A formula in a line of text."""
    _formula(translator, node, block=False)


def displayed(translator: Any, node: nodes.Element) -> None:
    """A formula on lines of its own."""
    _formula(translator, node, block=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx."""
    app.add_html_math_renderer("mathml", (inline, None), (displayed, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
