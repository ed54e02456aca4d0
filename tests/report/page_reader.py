"""Reading a built page back."""

from html.parser import HTMLParser
from pathlib import Path

import pandas as pd


class Page(HTMLParser):
    """Ids, table cells with the records they name, links, visible text, and tags left open."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.cells: list[tuple[str, list[str]]] = []
        self.stack: list[str] = []
        self.text = ""
        self.sources: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.sources += [v for k, v in attributes if k in {"src", "href", "xlink:href", "data"} and v]
        if tag == "td":
            self.cells.append(("", (found.get("data-records") or "").split()))
        if tag not in {"meta", "link", "br", "img", "input"}:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.ids += [v for k, v in attributes if k == "id"]

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.stack):
            self.text += data
        if "td" in self.stack:
            words, records = self.cells[-1]
            self.cells[-1] = (words + data, records)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def table(page: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(page.parent / "tables" / f"{name}.csv")
