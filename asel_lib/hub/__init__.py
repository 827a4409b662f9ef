"""A checkpoint as a folder that timm loads, and on a hub of models.

    from asel_lib import hub
    folder = hub.write("synthetic_anytime", "shared/synthetic_anytime")
    timm.create_model("local-dir:shared/synthetic_anytime", pretrained=True)  # with all patches
    asel_lib.load("local-dir:shared/synthetic_anytime")  # with its selector
    hub.push(folder, "owner/name")  # after `hf auth login`; then "hf-hub:owner/name" is its name everywhere

or, as a command, `python -m asel_lib.hub synthetic_anytime --output shared/synthetic_anytime --push owner/name`.
"""

from asel_lib.hub.folder import write
from asel_lib.hub.upload import push

__all__ = ["push", "write"]
