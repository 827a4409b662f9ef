"""What shows a model and its images: an explorer with a slider, and sheets of pictures."""

from asel_lib.extras import need

need("notebooks", "matplotlib", "jinja2", "ipywidgets")
