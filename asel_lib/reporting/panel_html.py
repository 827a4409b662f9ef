"""What an explorer shows, as HTML and as a sentence: pictures with a text for those who do not see them, bars, numbers.

Colours of text and lines follow Jupyter's theme, where there is one.
"""

import base64
import html
import io

from PIL import Image

from asel_lib.reporting.look import View

STYLE = """<style>
.asel-fig { margin: 0; line-height: 1.35 }
.asel-fig img, .asel-none { display: block; width: 100%; height: auto; aspect-ratio: 1; border-radius: 4px }
.asel-none { background: rgba(128, 128, 128, .18); display: grid; place-items: center; text-align: center;
  padding: 1em; box-sizing: border-box }
.asel-fig figcaption, .asel-answer, .asel-said { font-family: var(--jp-ui-font-family, system-ui, sans-serif);
  font-size: 14px; color: var(--jp-ui-font-color1, #222) }
.asel-fig figcaption { padding: .4em 0 }
.asel-said { line-height: 1.4; border-left: 3px solid #d55e00; padding: .1em .6em; margin: .2em 0 }
.asel-answer { line-height: 1.5 }
.asel-answer table { border-collapse: collapse; width: 100%; margin: 0 0 .6em }
.asel-answer caption { text-align: left; font-weight: 600; padding: 0 0 .3em; color: inherit }
.asel-answer :is(th, td) { padding: .18em 0; text-align: left; font-weight: 400; font-size: 14px; color: inherit;
  border: 0; background: none }
.asel-answer td { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; width: 4.5em }
.asel-bar { background: rgba(128, 128, 128, .18); height: .45em; border-radius: 3px; overflow: hidden }
.asel-bar i { display: block; height: 100%; background: #0072b2; border-radius: 3px }
.asel-cost .asel-bar i { background: #009e73 }
@media (max-width: 600px) { .asel-heat { order: 1 } } /* on a phone the answer stands nearer to the slider */
</style>"""


def kept(view: View, image: str) -> str:
    said = f"{view.kept} of {view.patches} patches kept"
    return _figure(view.shown, f"{image}: {said}, the others greyed", said)


def heat(view: View) -> str:
    if view.heat is None:
        return f'<figure class="asel-fig"><div class="asel-none">{html.escape(view.heat_of)}</div></figure>'
    said = f"{view.heat_of}: low <b>dark</b>, high <b>yellow</b>" + (
        "; framed: kept" if view.kept < view.patches else ""
    )
    return _figure(view.heat, f"heat map of the patches: {view.heat_of}", said)


def answer(view: View) -> str:
    """The most probable classes and what the answer cost, with a bar each; the numbers stand beside the bars."""
    classes = "".join(_row(name.replace("_", " "), f"{p:.1%}", p) for name, p in view.top)
    costs = _row("GMACs", f"{view.gmacs:.3g}", min(1, view.share), "asel-gmacs")
    return (
        '<div class="asel-answer" aria-live="polite">'
        f"<table><caption>Top {len(view.top)} classes</caption>{classes}</table>"
        f'<table class="asel-cost"><caption>Cost of this image</caption>{costs}'
        f'<tr><th scope="row">of what all patches cost</th><td>{view.share:.0%}</td></tr>'
        f'<tr><th scope="row">ms, measured now</th><td class="asel-ms">{view.ms:.1f}</td></tr></table></div>'
    )


def sentence(checkpoint: str, image: str, keep_ratio: float, view: View) -> str:
    label, probability = view.top[0]
    return (
        f"{checkpoint}, {image}, keep ratio {keep_ratio:g}: {label} {probability:.1%} from {view.kept} of "
        f"{view.patches} patches, {view.gmacs:.3g} GMACs, {view.ms:.1f} ms"
    )


def _row(name: str, number: str, share: float, kind: str = "") -> str:
    bar = f'<div class="asel-bar" aria-hidden="true"><i style="width:{share:.1%}"></i></div>'
    return f'<tr><th scope="row">{html.escape(name)}{bar}</th><td class="{kind}">{number}</td></tr>'


def _figure(picture: Image.Image, alt: str, caption: str) -> str:
    """decoding=sync: the old picture stays until the new one can be painted, nothing flickers while dragging. WebP: a
    tenth of a PNG, and a page that is far away must keep up with the slider."""
    file = io.BytesIO()
    picture.save(file, "webp", quality=90, method=2)
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<figure class="asel-fig"><img alt="{html.escape(alt)}" width="{picture.width}" height="{picture.height}" '
        f'decoding="sync" src="data:image/webp;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )
