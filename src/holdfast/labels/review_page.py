"""The review sheet as one HTML file: pictures or texts with buttons, whose marks are saved as the CSV that is read back in."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from holdfast.data.decode import decode_rgb
from holdfast.errors import DataError, RunError
from holdfast.labels.examples import Examples
from holdfast.labels.review import COLUMNS, SheetRow
from holdfast.run.files import atomic_write

__all__ = ["thumbnail", "write_html_sheet"]

SIDE = 112
LONGEST_TEXT = 600

# Nothing may be loaded from anywhere: what the data says is text, and stays text.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1b1b1b; background: #fff }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .5rem .75rem; border-bottom: 1px solid #ddd }
td { vertical-align: middle } th { position: sticky; top: 3.2rem; background: #fff } img { image-rendering: auto; max-width: 112px }
.bar { position: sticky; top: 0; background: #fff; padding: .6rem 0; display: flex; gap: 1rem; align-items: center; z-index: 1 }
.text { max-width: 34rem; overflow-wrap: anywhere } .id { color: #666; font-size: 13px; overflow-wrap: anywhere }
tr.keep { background: #eef7ee } tr.change { background: #fff6e0 } tr.drop { background: #fbeaea }
tr:focus-within { outline: 2px solid #4a7dc9 }
label { white-space: nowrap; margin-right: .6rem } button { font: inherit; padding: .35rem .9rem }
"""

_SCRIPT = """
const rows = [...document.querySelectorAll("tbody tr")];
const decision = row => (row.querySelector("input:checked") || {value: ""}).value;
const update = () => {
  rows.forEach(row => row.className = decision(row));
  document.getElementById("count").textContent = rows.filter(decision).length + " of " + rows.length + " decided";
};
const cell = text => '"' + String(text).replace(/"/g, '""') + '"';
const save = () => {
  const lines = [COLUMNS.join(",")].concat(rows.map(row => {
    const d = row.dataset, mark = decision(row), label = mark === "change" ? row.querySelector("select").value : "";
    return [d.rank, d.id, d.label, d.suggested, d.score, mark, label, d.content, d.sheet].map(cell).join(",");
  }));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\\n") + "\\n"], {type: "text/csv"}));
  link.download = document.body.dataset.file;
  link.click();
};
document.addEventListener("change", event => {
  if (event.target.tagName === "SELECT") event.target.closest("tr").querySelector("input[value=change]").checked = true;
  update();
});
document.getElementById("save").addEventListener("click", save);
update();
"""


def write_html_sheet(file: str, examples: Examples, rows: Sequence[SheetRow], fingerprint: str) -> None:
    """Write the sheet as a page that needs nothing but a browser.

    Args:
        file: A name that ends in ``.html``.
        examples: The dataset.
        rows: The suspects, worst first.
        fingerprint: Mark of the dataset.

    Raises:
        DataError: An image cannot be read.
        RunError: The file cannot be written.
    """
    body = "\n".join(_row(examples, rank, row, fingerprint) for rank, row in enumerate(rows, start=1))
    page = _page(f"{Path(file).stem}.csv", f"Labels to review: {examples.spec}", body)
    try:
        with atomic_write(Path(file)) as stream:
            stream.write(page.encode("utf-8"))
    except OSError as error:
        raise RunError(f"--out {file}: cannot be written: {error.strerror or error}.") from error


def thumbnail(data: bytes, side: int = SIDE) -> str:
    """An image as a ``data:`` address of a small PNG.

    Args:
        data: Bytes of an image file.
        side: The longest side in pixels; small images are enlarged by a whole factor.

    Raises:
        DataError: It cannot be read.
    """
    image = decode_rgb(data)
    factor = side // max(image.size)
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    image.thumbnail((side, side))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _page(saved: str, title: str, body: str) -> str:
    escaped = html.escape(title)
    columns = ", ".join(f'"{name}"' for name in COLUMNS)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escaped}</title><style>{_STYLE}</style></head>
<body data-file="{html.escape(saved)}">
<h1>{escaped}</h1>
<p>Most suspect first. <b>keep</b>: the label is right. <b>change</b>: the class in the list is. <b>drop</b>: the example is no good.
Then save, and read the file back in with <code>holdfast labels issues DATA --review {html.escape(saved)} --out corrected.csv</code>.</p>
<div class="bar"><button id="save">Save decisions</button><span id="count"></span></div>
<table><thead><tr><th>Example</th><th>Label</th><th>Suggested</th><th>Fit</th><th>Decision</th></tr></thead>
<tbody>
{body}
</tbody></table>
<script>const COLUMNS = [{columns}];{_SCRIPT}</script>
</body></html>
"""


def _row(examples: Examples, rank: int, row: SheetRow, fingerprint: str) -> str:
    data = {"rank": rank, "id": row.id, "label": row.label, "suggested": row.suggested, "score": f"{row.score:.4f}"}
    attributes = " ".join(
        f'data-{name}="{html.escape(str(value))}"' for name, value in {**data, "content": row.content, "sheet": fingerprint}.items()
    )
    options = "".join(f"<option{' selected' if name == row.suggested else ''}>{html.escape(name)}</option>" for name in examples.classes)
    choices = "".join(f'<label><input type="radio" name="d{rank}" value="{value}">{value}</label>' for value in ("keep", "change", "drop"))
    return (
        f"<tr {attributes}><td>{_example(examples, row)}</td><td>{html.escape(row.label)}</td>"
        f'<td><select aria-label="new label">{options}</select></td><td>{row.score:.2f}</td><td>{choices}</td></tr>'
    )


def _example(examples: Examples, row: SheetRow) -> str:
    name = f'<div class="id">{html.escape(row.id)}</div>'
    if examples.texts is not None:
        text = row.content if len(row.content) <= LONGEST_TEXT else f"{row.content[:LONGEST_TEXT]}…"
        return f'<div class="text">{html.escape(text)}</div>{name}'
    try:
        address = thumbnail(examples.image(row.row))
    except DataError as error:
        raise DataError(f"{examples.spec}: the image {row.id!r} cannot be shown ({error}).") from None
    return f'<img src="{address}" alt="">{name}'
