"""A folder with a network of transformers: which files it holds, and what they say of the network without loading it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.errors import ConfigError, ModelError
from holdfast.models.hub import hub_folder
from holdfast.models.text_encoder import POOLINGS

__all__ = ["TextFolder", "open_text_folder"]

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.tiktoken")
DESCRIBING = (".json", ".txt", ".model", ".tiktoken", ".codes")
"""Endings of the small files: configuration and tokenizer."""
_NO_DESCRIPTION = ("requirements.txt", "README.txt")


@dataclass(frozen=True)
class TextFolder:
    """Files of a network of transformers.

    Args:
        model: The model as the user typed it.
        root: The folder; ``modules.json`` of sentence-transformers is here, where there is one.
        path: Where the network itself is: mostly the same.
        hub: The repository it came from, if from the hub.
    """

    model: str
    root: Path
    path: Path
    hub: str | None = None

    @property
    def config(self) -> dict[str, Any]:
        """Content of ``config.json``."""
        return _read_json(self.path / CONFIG, self.model)

    @property
    def weights(self) -> Path:
        """The weights file.

        Raises:
            ModelError: There is none that can be read.
        """
        for name in WEIGHTS:
            if (self.path / name).is_file():
                return self.path / name
        parts = next((f"{name}.index.json" for name in WEIGHTS if (self.path / f"{name}.index.json").is_file()), None)
        what = "are cut into several files" if parts else "are not in the folder"
        raise ModelError(
            f"--model {self.model}: its weights {what}; expected {' or '.join(WEIGHTS)}: pass them as one file by --weights FILE, or start "
            "from nothing with --weights random"
        )

    def pooling(self) -> str | None:
        """How sentence-transformers makes one vector of a text; None where the folder is not one of its own.

        Raises:
            ModelError: In a way that is not known here.
        """
        modules = self._modules()
        layers = [module for module in modules if str(module.get("type", "")).endswith("Pooling")]
        if not layers:
            return None
        said = _read_json(self.root / str(layers[0].get("path", "")) / CONFIG, self.model)
        chosen = [str(said["pooling_mode"])] if isinstance(said.get("pooling_mode"), str) else _flags(said)
        if len(chosen) != 1 or chosen[0] not in POOLINGS:
            raise ModelError(
                f"--model {self.model}: pools tokens by {' and '.join(chosen) or 'nothing'}, which is not known here; "
                f"choose a folder that pools by one of {', '.join(POOLINGS[:-1])}"
            )
        return chosen[0]

    def left_out(self) -> list[str]:
        """Modules of sentence-transformers after the pooling, by their type."""
        types = [str(module.get("type", "")).rpartition(".")[2] for module in self._modules()]
        return types[types.index("Pooling") + 1 :] if "Pooling" in types else []

    def _modules(self) -> list[dict[str, Any]]:
        path = self.root / "modules.json"
        modules = _read_json(path, self.model) if path.is_file() else []
        return [module for module in modules if isinstance(module, dict)] if isinstance(modules, list) else []

    def description(self) -> Iterator[tuple[str, Path]]:
        """The files without which the network cannot be built again, weights aside: names relative to the folder, and where they are."""
        for folder in (self.root, *sorted(path for path in self.root.iterdir() if path.is_dir() and (path / CONFIG).is_file())):
            for path in sorted(folder.iterdir()):
                known = path.suffix in DESCRIBING and not path.name.endswith(".index.json") and path.name not in _NO_DESCRIPTION
                if known and path.is_file():
                    yield path.relative_to(self.root).as_posix(), path


def open_text_folder(name: str) -> TextFolder:
    """The folder of that name, else that of a repository of the hub: from the local cache, then from the network.

    Raises:
        ConfigError: There is no such folder, and it is no name of a repository.
        ModelError: A repository is neither in the cache nor can it be downloaded, or the folder lacks a file.
    """
    model = f"hf:{name}"
    root, hub = Path(name).expanduser(), None
    if root.is_file():
        raise ConfigError(f"--model {model}: this is a file; give the folder it lies in, with {CONFIG} and a tokenizer")
    if not root.is_dir():
        if name.startswith((".", "/", "~", "\\")) or name.count("/") > 1 or os.path.sep in name.replace("/", ""):
            raise ConfigError(f"--model {model}: there is no such folder; expected one with {CONFIG}, a tokenizer and {WEIGHTS[0]}")
        root, hub = hub_folder(name, (CONFIG, WEIGHTS), model=model), name
    path = _network_in(root, model)
    if not any(found for pattern in VOCABULARIES for found in path.glob(pattern)):
        raise ModelError(
            f"--model {model}: the folder has no tokenizer ({', '.join(VOCABULARIES[:3])}); save the one of the network there with "
            "tokenizer.save_pretrained(FOLDER)"
        )
    return TextFolder(model, root, path, hub)


def _network_in(root: Path, model: str) -> Path:
    """The folder itself, or that of the first module of sentence-transformers."""
    if (root / "modules.json").is_file():
        modules = _read_json(root / "modules.json", model)
        first = modules[0] if isinstance(modules, list) and modules and isinstance(modules[0], dict) else {}
        path = root / str(first.get("path", ""))
        if (path / CONFIG).is_file():
            return path
    if not (root / CONFIG).is_file():
        raise ModelError(
            f"--model {model}: the folder has no {CONFIG}, so it holds no network of transformers; expected what "
            "network.save_pretrained(FOLDER) writes"
        )
    return root


def _flags(said: Any) -> list[str]:
    """What older folders say as one yes or no for each way."""
    names = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max", "mean_sqrt_len_tokens": "mean_sqrt_len"}
    flags = {key.removeprefix("pooling_mode_"): on for key, on in said.items() if key.startswith("pooling_mode_")}
    return [names.get(key, key) for key, on in flags.items() if on]


def _read_json(path: Path, model: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"--model {model}: {path.name} cannot be read ({reason}); copy or download the folder again") from error
