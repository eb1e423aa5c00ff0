"""A printable page: A4, no script, nothing from elsewhere, every text escaped. It is written for its owner alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Final

from certs.identity import write_private

_STYLE: Final = """
@page { size: A4; margin: 18mm 15mm; }
body { font: 10.5pt/1.5 "Noto Sans CJK SC", "Source Han Sans SC", "PingFang SC", "Microsoft YaHei", sans-serif;
       color: #000; max-width: 180mm; margin: 0 auto; }
h1 { font-size: 16pt; margin: 0 0 2mm; }
h2 { font-size: 12pt; margin: 7mm 0 2mm; break-after: avoid; }
p { margin: 0 0 1.5mm; }
table { width: 100%; border-collapse: collapse; table-layout: fixed; }
thead { display: table-header-group; }
tr { break-inside: avoid; }
th, td { border: 0.3mm solid #666; padding: 1mm 1.5mm; text-align: left; vertical-align: top;
         white-space: pre-line; overflow-wrap: anywhere; font-size: 9pt; }
th { background: #eee; }
.note { font-size: 9pt; color: #333; }
.sheet { break-before: page; }
"""

_DENSE: Final = """
@page { margin: 10mm 12mm; }
body { font-size: 8pt; line-height: 1.3; max-width: 186mm; }
h1 { font-size: 13pt; margin: 0 0 1mm; }
h2 { font-size: 9.5pt; margin: 2.5mm 0 1mm; }
p { margin: 0 0 0.8mm; }
th, td { font-size: 7.5pt; padding: 0.5mm 1mm; }
.note { font-size: 7.5pt; }
"""

_HEAD: Final = (
    '<!DOCTYPE html>\n<html lang="zh-CN">\n<head>\n<meta charset="utf-8">\n'
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
    '<meta name="referrer" content="no-referrer">\n'
)


def heading(text: str, *, new_page: bool = False) -> str:
    """A heading within a page, or one with which a sheet begins."""
    kind = ' class="sheet"' if new_page else ""
    return f"<h2{kind}>{escape(text)}</h2>\n"


def paragraph(text: str, *, note: bool = False) -> str:
    """A paragraph; a note is printed smaller."""
    kind = ' class="note"' if note else ""
    return f"<p{kind}>{escape(text)}</p>\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], widths: Sequence[int] = ()) -> str:
    """A table. Line breaks within a cell stay.

    Args:
        columns: Headings; no row of them if all are empty.
        rows: One cell for each column.
        widths: Of the columns, in percent; all alike if none is given.
    """
    shares = "".join(f'<col style="width: {width}%">' for width in widths)
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    top = f"<thead><tr>{head}</tr></thead>\n" if any(columns) else ""
    cells = (["<td>" + escape(str(cell)) + "</td>" for cell in row] for row in rows)
    body = "".join(f"<tr>{''.join(row)}</tr>\n" for row in cells)
    return f"<table>\n{f'<colgroup>{shares}</colgroup>' if shares else ''}{top}<tbody>\n{body}</tbody>\n</table>\n"


def page(title: str, parts: Iterable[str], *, dense: bool = False) -> str:
    """A whole page of parts that were made here; a dense one is to go on one sheet."""
    name, style = escape(title), _STYLE + _DENSE if dense else _STYLE
    top = f"{_HEAD}<title>{name}</title>\n<style>{style}</style>\n</head>\n<body>\n<h1>{name}</h1>\n"
    return f"{top}{''.join(parts)}</body>\n</html>\n"


def write_page(path: Path, text: str) -> None:
    """Write a page that only its owner can read.

    Raises:
        FileExistsError: There is such a file; a page never replaces another.
    """
    write_private(path, text.encode())
