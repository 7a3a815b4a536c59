"""What is borrowed from huggingface_hub. Tried with huggingface_hub 2.4.0."""

from pathlib import Path


def snapshots(repo: str) -> Path:
    """The folder of the client's cache with a folder for each commit of a repository.

    Borrowed: how the cache names the folder of a repository. `scan_cache_dir`, the public way,
    reads the whole cache.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = repo_folder_name(repo_id=repo, repo_type="model")
    return Path(constants.HF_HUB_CACHE) / folder / "snapshots"


def is_failed_upload(error: RuntimeError) -> bool:
    """Whether a large file could not be sent.

    Borrowed: the words of its error. It wraps what went wrong, of any type, in a bare RuntimeError,
    as `__cause__`.
    """
    return str(error).startswith("Error while uploading")


def is_refused_content(error: ValueError) -> bool:
    """Whether the Hub refused what was sent: a file that is too large, or a card's front matter.

    Borrowed: the words of its error, a bare ValueError.
    """
    return "LFS batch" in str(error) or "metadata in README.md" in str(error)
