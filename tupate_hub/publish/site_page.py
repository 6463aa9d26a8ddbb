"""The page itself: the modules of `explorer/` as one script, its style, and its frame with what a browser may load.

A browser loads neither modules nor workers for a page that was opened from a file. So the modules, which a reader
finds in `explorer/` one by one, are put into one classic script: their imports are left out, and all names of a side
are in one scope, in which no two may be the same. The worker's modules become the body of a function, whose text the
page makes a Blob of; the page's side comes after it.
"""

from __future__ import annotations

import re
from functools import cache
from html import escape
from importlib.resources import files

from tupate_hub.errors import FormatError

#: In the order in which they are put together: what is used comes before what uses it when the script starts.
WORKER = (
    "numbers", "sentences", "safetensors", "names", "blocks", "peft", "embedding", "similarity", "sketch", "worker",
)  # fmt: skip
PAGE = (
    "numbers", "zoo", "dom", "router", "ranking", "marks", "plane", "stamps", "groups", "search", "neighbours",
    "dropping", "view_map", "view_heatmap", "view_task", "view_compare", "view_list", "view_drop", "view_trust",
    "view_home", "app",
)  # fmt: skip
#: How a site of ours is told from other people's files: a page of theirs is never overwritten.
GENERATOR = b'<meta name="generator" content="tupate-hub">'
_IMPORT = re.compile(r"^import .*? from \"\./[\w]+\.js\";\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|let|class) )", re.MULTILINE)
_NAME = re.compile(r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+)", re.MULTILINE)
#: Nothing but the page's own files; its worker is a Blob. From the Hub an adapter may be fetched, where a visitor asks.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; worker-src blob:; base-uri 'none'; "
    "form-action 'none'; connect-src "
)
_HUB = "https://huggingface.co https://*.huggingface.co https://*.hf.co"


def page_files(title: str, *, hub: bool) -> dict[str, bytes]:
    """`index.html`, `app.js` and `style.css`; with `hub` the browser may ask the Hub for adapters."""
    policy = _POLICY + (_HUB if hub else "'none'")
    frame = source("index.html").replace("{{POLICY}}", policy).replace("{{TITLE}}", escape(title))
    return {"index.html": frame.encode(), "app.js": script().encode(), "style.css": source("style.css").encode()}


@cache
def script() -> str:
    """The modules of both sides as one script."""
    worker, page = joined(WORKER), joined(PAGE)
    return (
        '"use strict";\n(() => {\n'
        f"function workerBody() {{\n{worker}}}\n{page}start(TUPATE_HUB_DATA, workerBody);\n}})();\n"
    )


def joined(modules: tuple[str, ...]) -> str:
    """Modules one behind the other, without imports and exports.

    Raises
    ------
    FormatError
        When two define one name: a mistake in this package.
    """
    texts = [source(f"{module}.js") for module in modules]
    names = [name for text in texts for name in _NAME.findall(text)]
    if twice := {name for name in names if names.count(name) > 1}:
        raise FormatError(f"Two modules of the page define {min(twice)!r}.")
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", text)) for text in texts)


def source(name: str) -> str:
    """A file of `explorer/`."""
    return files("tupate_hub.publish").joinpath("explorer").joinpath(name).read_text(encoding="utf-8")
