"""A user's file is executed before methods are looked up; an error inside it names the line."""

from __future__ import annotations

import sys

import pytest
from tests.installed_packages import PULL as PLUGIN

from holdfast import catalog
from holdfast.config.layers import command_line, keywords
from holdfast.config.load import resolve
from holdfast.config.plugins import load_plugin
from holdfast.errors import ConfigError

NEEDED = {"data": "cars/", "model": "timm:resnet18", "out": "runs/a"}

pytestmark = pytest.mark.usefixtures("own_catalog")


@pytest.fixture
def plugin(tmp_path):
    file = tmp_path / "pull.py"
    file.write_text(PLUGIN)
    return str(file)


def test_a_method_of_a_plugin_is_found_with_its_options(plugin):
    config = resolve([command_line({**NEEDED, "plugin": [plugin], "method": "pull", "method.strength": "3"})])
    assert config.method == [{"name": "plain"}, {"name": "pull", "weight": 0.25, "strength": 3.0}]
    assert config.plugin == [plugin]


def test_a_file_may_be_executed_again(plugin):
    for _ in range(2):
        resolve([keywords({**NEEDED, "plugin": plugin, "method": "pull"})])
    assert catalog.METHODS["pull"].load().__name__ == "Pull"


def test_files_of_one_name_in_two_folders_do_not_mix(tmp_path, plugin):
    (tmp_path / "b").mkdir()
    other = tmp_path / "b" / "pull.py"
    other.write_text(PLUGIN.replace('"pull"', '"push"'))
    first, second = load_plugin(plugin), load_plugin(str(other))
    assert first.__name__ != second.__name__
    assert {"pull", "push"} <= set(catalog.METHODS)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("x = 1\ny = missing\n", "pull.py, line 2: NameError: name 'missing' is not defined."),
        ("def f():\n    raise ValueError('bad\\nnews')\n\nf()\n", "pull.py, line 2: ValueError: bad news."),
        ("x = (\n", "pull.py, line 1: SyntaxError: '(' was never closed."),
        ("import no_such_module\n", "pull.py, line 1: ModuleNotFoundError: No module named 'no_such_module'."),
        ("import sys\nsys.exit(3)\n", "pull.py, line 2: SystemExit: 3."),
        ("import json\njson.loads('{')\n", "pull.py, line 2: JSONDecodeError: Expecting property name"),
        (PLUGIN.replace('"pull"', '"plain"'), "pull.py, line 5: register: the method 'plain' exists already"),
        (PLUGIN.replace(": float = 2.0", ""), "pull.py, line 5: register('pull'): the argument 'strength' of Pull needs a default"),
    ],
)
def test_an_error_inside_names_file_line_and_exception(tmp_path, monkeypatch, code, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pull.py").write_text(code)
    modules = set(sys.modules)
    with pytest.raises(ConfigError) as caught:
        resolve([command_line({**NEEDED, "plugin": ["pull.py"]})])
    assert str(caught.value).startswith(f"--plugin {sentence}")
    assert "\n" not in str(caught.value)
    assert not any(name.startswith("holdfast_plugin_") for name in set(sys.modules) - modules)


def test_a_missing_file_suggests_its_neighbour(tmp_path, monkeypatch, plugin):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^--plugin pul\.py: no such file\. Did you mean 'pull\.py'\?$"):
        resolve([command_line({**NEEDED, "plugin": ["pul.py"]})])


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "pull.txt").write_text(PLUGIN)
    with pytest.raises(ConfigError, match=r"no Python file; its name must end in \.py"):
        load_plugin(str(tmp_path / "pull.txt"))
