"""Model folders on the Hugging Face hub: uploaded as they are, and fetched into its local cache."""

from pathlib import Path

from unirae.core.errors import WeightsError
from unirae.core.hub import first_line, hub_asked_once, hub_problem
from unirae.models.checkpoints.model_folder import broken_config, is_model_folder


def push_to_hub(folder: str | Path, repo: str, *, private: bool = False, token: str | None = None) -> str:
    """Upload a model folder to ``owner/name``, which is created where it does not exist; returns its address.

    Raises:
        WeightsError: If ``folder`` is no model folder, or the hub refuses.
    """
    from huggingface_hub import HfApi

    if not is_model_folder(folder):
        raise WeightsError(f"{folder} is no model folder of unirae; make one with `python src/export.py`")
    api = HfApi(token=token)
    with hub_asked_once() as silent:
        try:
            address = api.create_repo(repo, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload a model of unirae")
        except (OSError, ValueError) as error:
            raise WeightsError(
                f"cannot upload {folder} to {repo}: {silent or first_line(error)}. Log in with `hf auth login`; the "
                "folder stays, so the upload alone can be repeated with unirae.push_to_hub(folder, repo)"
            ) from None
    return str(address)


def from_hub(repo: str, *, revision: str | None = None, token: str | None = None) -> Path:
    """The folder of a model on the hub, for ``load_rae`` and ``load_dit``; fetched where it is not in the cache.

    Raises:
        WeightsError: If the repository is not there, or holds no model of unirae.
    """
    from huggingface_hub import snapshot_download

    wanted = ["*config.json", "*model.safetensors", "README.md"]
    with hub_asked_once():
        try:
            folder = Path(snapshot_download(repo, revision=revision, token=token, allow_patterns=wanted))
        except (OSError, ValueError) as error:
            raise WeightsError(
                f"cannot fetch {repo} from the hub: {hub_problem(error, repo)}. Without a network, fetch it elsewhere "
                f"(`hf download {repo} --local-dir DIR`) and give DIR"
            ) from None
    if broken := broken_config(folder):
        raise WeightsError(f"{repo} on the hub: {broken}")
    if not is_model_folder(folder):
        raise WeightsError(
            f"{repo} on the hub is no model of unirae: it lacks config.json and model.safetensors"
        )
    return folder
