"""A small Sphinx extension: mathematics as MathML, and pictures of a weight that a phone can load.

Browsers draw MathML by themselves, so the pages need no script from elsewhere and can be read
offline. A formula that docutils cannot translate is a warning, hence an error of the build.

Large figures are stored as WebP; the numbers of the book do not pass through them."""

import html
import re
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from PIL import Image
from sphinx.locale import _
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

HEAVY = 150_000  # bytes from which a picture is stored as WebP

logger = logging.getLogger(__name__)

ACCENT = r"\\(?:hat|tilde|bar|vec|dot|check|widehat|widetilde)"
ACCENTED = re.compile("(" + ACCENT + r"\s*(?:\{[^{}]*\}|\\[A-Za-z]+|\w))\s*_")


def prepared(tex: str) -> str:
    """LaTeX that docutils reads as its author meant it."""
    tex = ACCENTED.sub(r"\1{}_", tex.strip())  # or the index of an accent lands below the letter
    return re.sub(r"\\(begin|end)\{align\*?\}", r"\\\1{aligned}", tex)


def mathml(node: nodes.Node, block: bool) -> str:
    try:
        return tex2mathml(prepared(node.astext()), as_block=block)
    except Exception as error:  # MathError where docutils foresaw it, else IndexError and others
        logger.warning("formula not understood: %s (%s)", node.astext(), error, location=node)
        return f"<code>{html.escape(node.astext())}</code>"


def visit_inline(writer, node: nodes.math) -> None:
    writer.body.append(f'<span class="math">{mathml(node, block=False)}</span>')
    raise nodes.SkipNode


def visit_block(writer, node: nodes.math_block) -> None:
    writer.body.append(writer.starttag(node, "div", CLASS="math"))
    if node["number"]:
        writer.body.append(f'<span class="eqno">({get_node_equation_number(writer, node)})')
        writer.add_permalink_ref(node, _("Link to this equation"))
        writer.body.append("</span>")
    writer.body.append(f"{mathml(node, block=True)}</div>\n")
    raise nodes.SkipNode


REPAIRS = {  # what axe-core, browsers and eyes find in the pages that Sphinx writes
    # sphinx-exercise: the same id many times
    r'<section id="(?:exercise|solution)-content">': "<section>",
    # what a list, such as that of the references, is made of
    r' role="doc-biblioentry"': ' role="listitem"',
    # in the table of run times, for which many machines have no glyph
    "\N{WHITE HEAVY CHECK MARK}": "done",
    "\N{CROSS MARK}": "failed",
    # inline settings that are there twice, which browsers report as an error on every page
    r"(<script>(?:const THEBE_JS_URL|var togglebutton)[^<]*</script>)(?=.*\1)": "",
    # the state of widgets weighs much and is of no use without a kernel
    r'<script type="application/vnd\.jupyter\.widget-state\+json">.*?</script>': "",
}
ANSWER = re.compile(r'<div class="zf-answer"><p>(.*?)</p>', re.DOTALL)
DESCRIPTION = re.compile(r'((?:name="description"|property="og:description") content=")[^"]*')


def repaired(text: str) -> str:
    """Return a page with its markup repaired.

    A link to it shows its answer, where sphinxext.opengraph takes the first figure's words.
    """
    for pattern, better in REPAIRS.items():
        text = re.sub(pattern, better, text, flags=re.DOTALL)
    if match := ANSWER.search(text):
        words = html.escape(html.unescape(re.sub("<[^>]+>", "", match[1])))
        text = DESCRIPTION.sub(lambda tag: tag[1] + words, text)
    return text


def finish(app, exception) -> None:
    """Repair all pages, and store large PNGs as WebP, a fifth of their size, for them to show."""
    if exception is not None:
        return
    heavy = [f for f in Path(app.outdir, "_images").glob("*.png") if f.stat().st_size >= HEAVY]
    for file in heavy:
        with Image.open(file) as picture:
            picture.save(file.with_suffix(".webp"), quality=90)
        file.unlink()
    for page in Path(app.outdir).rglob("*.html"):
        text = repaired(page.read_text("utf-8"))
        for file in heavy:
            text = text.replace(f"_images/{file.name}", f"_images/{file.stem}.webp")
        page.write_text(text, "utf-8")


def setup(app) -> dict:
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
