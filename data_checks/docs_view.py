"""How Great Expectations' sections become HTML here: without scripts, and with every value escaped."""

from __future__ import annotations

import html
from typing import Any

from great_expectations.render.components import RenderedComponentContent
from great_expectations.render.view.view import DefaultJinjaPageView
from jinja2 import ChoiceLoader, PackageLoader, pass_context


class SectionsView(DefaultJinjaPageView):
    """The sections of a page, without the page around them.

    `collapse.j2` of `pages/` stands before GX' own, which needs a script to open.
    """

    _template = "sections.j2"

    def __init__(self) -> None:
        super().__init__()
        of_gx = self.env.loader
        assert of_gx is not None
        self.env.loader = ChoiceLoader([PackageLoader("data_checks", "pages"), of_gx])

    @pass_context
    def render_content_block(
        self,
        jinja_context: Any,
        content_block: Any,
        index: Any = None,
        content_block_id: Any = None,
        render_to_markdown: bool = False,
    ) -> Any:
        """As GX does, but what is no block (text, a number, a pair of values in a table) is data, never markup."""
        if isinstance(content_block, list):
            content_block = [one if _is_block(one) else _escaped(one) for one in content_block]
        elif content_block is not None and not _is_block(content_block):
            return _escaped(content_block)
        return super().render_content_block(
            jinja_context, content_block, index, content_block_id, render_to_markdown
        )

    def render_string_template(self, template: Any) -> Any:
        """As GX does, which escapes the parameters; queries stand in the template itself."""
        if isinstance(template, dict):
            template = {**template, "template": html.escape(template.get("template", ""), quote=False)}
        return super().render_string_template(template)  # type: ignore[no-untyped-call]


def _is_block(content: object) -> bool:
    return isinstance(content, dict | RenderedComponentContent)


def _escaped(value: object) -> str:
    return html.escape(str(value))
