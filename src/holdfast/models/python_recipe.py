"""A network that a function of the user returns."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from holdfast.errors import ConfigError, ModelError, suggest
from holdfast.models.weights import WeightsFile
from holdfast.types import InputSpec

__all__ = ["PythonRecipe"]

IMAGENET = InputSpec(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class PythonRecipe:
    """``MODULE:FUNCTION`` or ``path/to/file.py:FUNCTION``, looked up in the working directory too.

    The function is called without arguments, or with ``num_classes=1000`` if it requires that, and returns the bare network with its head
    and with whatever weights it likes. Size and channel statistics are read off the network's attribute ``pretrained_cfg``, a mapping
    with ``input_size``, ``mean``, ``std`` as timm has it; ImageNet's are taken where there is none.

    Args:
        name: Module or file, colon, function.
        image_size: Side in pixels, where not the network's own.

    Raises:
        ConfigError: The module, file or function is not there.
        ModelError: Importing it fails.
    """

    def __init__(self, name: str, image_size: int | None) -> None:
        self._spec = f"python:{name}"
        module, colon, function = name.rpartition(":")
        if not colon or not module or not function:
            raise ConfigError(f"--model {self._spec}: expected python:MODULE:FUNCTION or python:FILE.py:FUNCTION")
        self._folder = Path(module).resolve().parent if module.endswith(".py") else Path.cwd()
        self._image_size = image_size
        self.notes: list[str] = []
        with self._importable():
            self._function = self._find(self._import(module), module, function)

    @contextmanager
    def _importable(self) -> Iterator[None]:
        """The folder of the user's file, or the working directory, in front of ``sys.path``."""
        sys.path.insert(0, str(self._folder))
        try:
            yield
        finally:
            sys.path.remove(str(self._folder))

    def _import(self, name: str) -> ModuleType:
        try:
            return _import_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
        except (FileNotFoundError, ModuleNotFoundError) as error:
            if isinstance(error, ModuleNotFoundError) and error.name not in (name, name.partition(".")[0]):
                raise ModelError(f"--model {self._spec}: importing {name!r} failed ({error})") from error
            raise ConfigError(f"--model {self._spec}: there is no module or file {name!r} here ({self._folder})") from error
        except Exception as error:  # the user's module may fail in any way
            raise ModelError(f"--model {self._spec}: importing {name!r} failed ({type(error).__name__}: {error})") from error

    def _find(self, module: ModuleType, typed: str, name: str) -> Callable[..., Any]:
        function = getattr(module, name, None)
        if not callable(function):
            own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise ConfigError(f"--model {self._spec}: {typed!r} has no function {name!r}. {suggest(name, own)}")
        return function

    def build(self) -> nn.Module:
        """What the function returns."""
        required = [
            parameter.name
            for parameter in inspect.signature(self._function).parameters.values()
            if parameter.default is parameter.empty and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
        if set(required) - {"num_classes"}:
            raise ConfigError(f"--model {self._spec}: the function requires {', '.join(required)}; only num_classes may be required")
        with self._importable():
            try:
                net = self._function(**dict.fromkeys(required, 1000))
            except Exception as error:  # the user's function may fail in any way
                raise ModelError(f"--model {self._spec}: the function failed ({type(error).__name__}: {error})") from error
        if not isinstance(net, nn.Module):
            raise ModelError(f"--model {self._spec}: the function returned a {type(net).__name__}, expected a torch.nn.Module")
        return net

    def input_spec(self, net: nn.Module) -> InputSpec:
        """What ``net.pretrained_cfg`` says, ImageNet's statistics where it is silent."""
        config = getattr(net, "pretrained_cfg", None)
        config = config if isinstance(config, Mapping) else {}
        silent = [name for name in ("input_size", "mean", "std") if config.get(name) is None]
        if silent:
            self.notes.append(f"{self._spec}: no pretrained_cfg with {', '.join(silent)}, ImageNet's taken")
        size = self._image_size or (config["input_size"][-1] if "input_size" not in silent else IMAGENET.size)
        mean, std = (tuple(config[name]) if name not in silent else getattr(IMAGENET, name) for name in ("mean", "std"))
        if len(mean) != 3 or len(std) != 3:
            raise ModelError(f"--model {self._spec}: pretrained_cfg must give 3 numbers for mean and for std, got {mean} and {std}")
        return InputSpec(int(size), mean, std)

    def pretrained(self) -> WeightsFile | None:
        """None: the function returns the network with its weights."""
        self.notes.append(f"{self._spec}: the pretrained weights are those that the function returns")
        return None

    def adapt(self, net: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Nothing is known about other forms of this network."""
        return None


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(path)
    # A name of its own, so that a file called torch.py hides nothing.
    spec = importlib.util.spec_from_file_location(f"holdfast_user_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
