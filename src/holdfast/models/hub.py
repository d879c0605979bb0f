"""Pretrained weights of the hubs that users know: from the local cache, then from the network unless that is forbidden."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlparse

import torch

from holdfast.errors import ModelError

__all__ = ["from_hub", "from_url", "hub_folder"]


def from_hub(repository: str, filenames: Sequence[str], *, model: str) -> Path:
    """The first of ``filenames`` that a repository of the Hugging Face hub has.

    Args:
        repository: ``owner/name``, with ``@revision`` where it is pinned.
        filenames: Names to try, best first.
        model: The model as the user typed it, for messages.

    Raises:
        ModelError: It is neither in the cache nor can it be downloaded.
    """
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repo_id, _, pinned = repository.partition("@")
    revision = pinned or None
    for filename in filenames:
        cached = huggingface_hub.try_to_load_from_cache(repo_id, filename, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
    _refuse_offline(model)
    for filename in filenames:
        try:
            return Path(huggingface_hub.hf_hub_download(repo_id, filename, revision=revision))
        except LocalEntryNotFoundError as error:  # no connection; it is an EntryNotFoundError too
            raise _not_available(model, error) from error
        except EntryNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise _not_available(model, error) from error
    raise _not_available(model, f"{repository} has none of {', '.join(filenames)}")


def hub_folder(repository: str, needed: tuple[str, Sequence[str]], *, model: str) -> Path:
    """The folder of a repository of the Hugging Face hub with a network of transformers: weights, configuration and tokenizer.

    Args:
        repository: ``owner/name``, with ``@revision`` where it is pinned.
        needed: A file that it must have, and names of the weights, best first, of which it must have one.
        model: The model as the user typed it, for messages.

    Raises:
        ModelError: It is neither in the cache nor can it be downloaded.
    """
    import huggingface_hub

    description, weights = needed
    repo_id, _, pinned = repository.partition("@")
    try:
        folder = Path(huggingface_hub.snapshot_download(repo_id, revision=pinned or None, local_files_only=True))
        if (folder / description).is_file() and any((folder / name).is_file() for name in weights):
            return folder
    except (OSError, ValueError):  # it is not in the cache, or this is no name of a repository
        pass
    if _is_offline():
        raise _no_folder(model, repository, "HOLDFAST_OFFLINE is set")
    patterns = ["*.json", "*.txt", "*.model", "*.tiktoken", "*.codes"]
    try:
        there = [name for name in weights if huggingface_hub.file_exists(repo_id, name, revision=pinned or None)]
        return Path(huggingface_hub.snapshot_download(repo_id, revision=pinned or None, allow_patterns=[*patterns, *there[:1]]))
    except (OSError, ValueError) as error:
        raise _no_folder(model, repository, error) from error


def _no_folder(model: str, repository: str, reason: object) -> ModelError:
    text = str(reason).strip().partition("\n")[0] or type(reason).__name__
    return ModelError(
        f"--model {model}: there is no such folder, and the repository {repository} is not on this machine and cannot be downloaded "
        f"({text}); fetch it elsewhere and give its folder as --model hf:FOLDER"
    )


def from_url(url: str, *, model: str) -> Path:
    """A file from torch's own cache, or downloaded into it and checked against the hash in its name.

    Raises:
        ModelError: It is neither in the cache nor can it be downloaded.
    """
    name = Path(urlparse(url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    _refuse_offline(model)
    # torch names files stem-HASH.pth; download_url_to_file compares the beginning of the SHA-256 with it.
    _, dash, prefix = path.stem.rpartition("-")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix if dash else None, progress=False)
    except (OSError, RuntimeError) as error:
        raise _not_available(model, error) from error
    return path


def _refuse_offline(model: str) -> None:
    if _is_offline():
        raise _not_available(model, "HOLDFAST_OFFLINE is set")


def _is_offline() -> bool:
    return os.environ.get("HOLDFAST_OFFLINE", "0") not in ("", "0")


def _not_available(model: str, reason: object) -> ModelError:
    text = str(reason).strip().partition("\n")[0] or type(reason).__name__
    return ModelError(
        f"--model {model}: its pretrained weights are not on this machine and cannot be downloaded ({text}); "
        "fetch them elsewhere and pass --weights FILE, or start from nothing with --weights random"
    )
