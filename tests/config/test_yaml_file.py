"""Every mistake in a YAML file is one sentence, with its line."""

from __future__ import annotations

import pytest

from holdfast.config.yaml_file import yaml_layer
from holdfast.errors import ConfigError


def test_keys_and_values_are_read(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("lr: 1e-3\nmethod:\n- {name: adarand, alpha: 0.5}\nhead_lr: null\n")
    assert yaml_layer(str(file)).values == {"lr": "1e-3", "method": [{"name": "adarand", "alpha": 0.5}], "head_lr": None}


def test_an_empty_file_and_the_versions_of_a_run_say_nothing(tmp_path):
    file = tmp_path / "run.yaml"
    for text in ("", "# nothing\n", "versions: {torch: 2.15}\n"):
        file.write_text(text)
        assert yaml_layer(str(file)).values == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("lr: 1\nseed: 0\nlr: 2\n", "run.yaml, line 3: the key 'lr' is given twice, first in line 1."),
        ("method:\n- name: fnp\n  name: plain\n", "run.yaml, line 3: the key 'name' is given twice, first in line 2."),
        ("- lr\n", "run.yaml: expected keys with values such as 'lr: 0.01', got a list."),
        ("lr\n", "run.yaml: expected keys with values such as 'lr: 0.01', got 'lr'."),
        ("lr: 1\nseed: [1\n", "run.yaml, line 3: "),
        ("lr: 1\n\tseed: 0\n", "run.yaml, line 2: "),
        ("lr: a: b\n", "run.yaml, line 1: mapping values are not allowed here."),
        ("lr: 1\nseed: !!python/object/apply:os.system ['true']\n", "run.yaml, line 2: could not determine a constructor for the tag"),
        ("lr: 1\n---\nlr: 2\n", "run.yaml, line 2: "),
        ("lr: \x00\n", "run.yaml: no valid YAML: "),
    ],
)
def test_a_mistake_has_a_line(tmp_path, monkeypatch, text, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        yaml_layer("run.yaml")
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_a_missing_file_suggests_its_neighbour(tmp_path):
    (tmp_path / "run.yaml").touch()
    with pytest.raises(ConfigError, match=r"^--config .*run\.yml: no such file\. Did you mean '.*run\.yaml'\?$"):
        yaml_layer(str(tmp_path / "run.yml"))


def test_a_run_directory_is_answered_with_its_file(tmp_path):
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ConfigError, match=r"is a folder; give the file, --config .*config\.yaml\.$"):
        yaml_layer(str(tmp_path))


def test_a_file_of_bytes_is_no_yaml(tmp_path):
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\xfa\x81")
    with pytest.raises(ConfigError, match="no text file in UTF-8"):
        yaml_layer(str(tmp_path / "run.yaml"))
