"""Uploading a folder that `write` made, with huggingface_hub."""

from pathlib import Path

from asel_lib import __version__, checkpoints
from asel_lib.errors import ExportError
from asel_lib.files import replace_text
from asel_lib.hub.card import PLACEHOLDER
from asel_lib.hub.folder import CARD, FILES
from asel_lib.sources import hub_errors


def push(folder: str | Path, repo_id: str, *, private: bool = True, message: str = "", token: str | None = None) -> str:
    """Upload a folder that `write` made to a hub. The repository is made where there is none.

    Args:
        folder: of `write`; its files alone are uploaded, whatever else lies there. They are loaded first, and the model
            card gets the repository's name.
        repo_id: "owner/name".
        private: whether a new repository is for its owner alone; an existing one stays what it is.
        message: of the commit.
        token: None: that of `hf auth login`, or of HF_TOKEN.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError: the folder is not whole.
        ExportError: the hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi

    model = checkpoints.load(f"local-dir:{folder}")
    api = HfApi(token=token, library_name="asel", library_version=__version__)
    try:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        readme = Path(folder, CARD)
        replace_text(readme, readme.read_text(encoding="utf-8").replace(PLACEHOLDER, repo_id))
        return str(
            api.upload_folder(
                repo_id=repo_id,
                folder_path=str(folder),
                allow_patterns=list(FILES),
                commit_message=message or f"Add {model.record['name']}",
            )
        )
    except (ValueError, *hub_errors()) as error:
        raise ExportError(
            f"{repo_id}: the hub took nothing ({type(error).__name__}: {str(error).strip()[:300]}): log in by 'hf auth "
            "login', or pass a token that may write there; the folder is whole, and can be pushed again"
        ) from error
