"""A page as the report's tests look at it."""

import json
from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """The tags, the attributes, the visible text and the charts' JSON of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.charts, self._inside = "", [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        kind = dict(attrs).get("type")
        self._inside = f"{tag}:{kind}" if tag in ("script", "style") else ""

    def handle_endtag(self, tag) -> None:
        self._inside = ""

    def handle_data(self, data) -> None:
        if self._inside == "script:application/json":
            self.charts.append(json.loads(data))
        elif not self._inside and data.strip():
            self.text += " " + " ".join(data.split())
