"""How Great Expectations' sections become HTML here: without scripts, and with every value escaped."""

from __future__ import annotations

import html
from typing import Any

from great_expectations.render.view import DefaultJinjaPageView
from jinja2 import ChoiceLoader, PackageLoader, pass_context


class SectionsView(DefaultJinjaPageView):
    """The sections of a page, without the page around them.

    `collapse.j2` of `pages/` stands before GX' own, which needs a script to open.
    """

    _template = "sections.j2"

    def __init__(self) -> None:
        super().__init__()
        self.env.loader = ChoiceLoader([PackageLoader("data_checks", "pages"), self.env.loader])

    @pass_context
    def render_content_block(
        self,
        jinja_context: Any,
        content_block: Any,
        index: Any = None,
        content_block_id: Any = None,
        render_to_markdown: bool = False,
    ) -> Any:
        """As GX does, but text that stands in a table or a list by itself is data, never markup."""
        if isinstance(content_block, str):
            return html.escape(content_block)
        if isinstance(content_block, list):
            content_block = [html.escape(one) if isinstance(one, str) else one for one in content_block]
        return super().render_content_block(
            jinja_context, content_block, index, content_block_id, render_to_markdown
        )

    def render_string_template(self, template: Any) -> Any:
        """As GX does, which escapes the parameters; queries stand in the template itself."""
        if isinstance(template, dict):
            template = {**template, "template": html.escape(template.get("template", ""), quote=False)}
        return super().render_string_template(template)
