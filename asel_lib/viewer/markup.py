"""What an explorer shows, as HTML (Jinja templates beside this file) and as a sentence.

Pictures have a text for those who do not see them. Colours of text and lines follow Jupyter's theme, where there is
one.
"""

import base64
import io

from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from PIL import Image

from asel_lib.viewer.look import Seen

_TEMPLATES = Environment(loader=PackageLoader(__package__), autoescape=True)


def style() -> str:
    """The explorer's style sheet, as an element."""
    css, _, _ = _TEMPLATES.loader.get_source(_TEMPLATES, "explorer.css")
    return _filled("style.html", css=Markup(css))


def kept(view: Seen, image: str) -> str:
    """The picture of the kept patches.

    Args:
        view: what was seen.
        image: its name.
    """
    said = f"{view.kept} of {view.patches} patches kept"
    return _picture(view.shown, alt=f"{image}: {said}, the others greyed", said=said)


def heat(view: Seen) -> str:
    """The heat map, or why there is none.

    Args:
        view: what was seen.
    """
    if view.heat is None:
        return _filled("no_picture.html", why=view.heat_of)
    alt = f"heat map of the patches: {view.heat_of}"
    return _picture(view.heat, alt=alt, said=view.heat_of, colours=True, framed=view.kept < view.patches)


def answer(view: Seen) -> str:
    """The most probable classes and what the answer cost, with a bar each; the numbers stand beside the bars."""
    return _filled(
        "answer.html",
        classes=[(name.replace("_", " "), f"{probability:.1%}") for name, probability in view.top],
        gmacs=f"{view.gmacs:.3g}",
        bar=f"{min(1, view.share):.1%}",
        share=f"{view.share:.0%}",
        ms=f"{view.ms:.1f}",
    )


def message(text: str) -> str:
    """A line for the reader; nothing for an empty text."""
    return _filled("message.html", text=text)


def sentence(checkpoint: str, image: str, keep_ratio: float, view: Seen) -> str:
    """What was seen, in words.

    Args:
        checkpoint: its name.
        image: its name.
        keep_ratio: that was asked for.
        view: what was seen.
    """
    label, probability = view.top[0]
    return (
        f"{checkpoint}, {image}, keep ratio {keep_ratio:g}: {label} {probability:.1%} from {view.kept} of "
        f"{view.patches} patches, {view.gmacs:.3g} GMACs, {view.ms:.1f} ms"
    )


def _picture(picture: Image.Image, **about) -> str:
    """WebP: a tenth of a PNG, and a page that is far away must keep up with the slider."""
    file = io.BytesIO()
    picture.save(file, "webp", quality=90, method=2)
    data = base64.b64encode(file.getvalue()).decode()
    return _filled("picture.html", data=data, width=picture.width, height=picture.height, **about)


def _filled(template: str, **values) -> str:
    return _TEMPLATES.get_template(template).render(**values).strip()
