"""Methods of installed packages: found by name, imported when chosen, and harmless while they are not."""

from __future__ import annotations

import logging
import sys

import pytest
from tests.installed_packages import PULL, write_package

from holdfast.catalog import METHODS, known_methods, method_record, parse_methods
from holdfast.config.layers import command_line
from holdfast.config.load import resolve
from holdfast.entry_points import published
from holdfast.errors import ConfigError

NEEDED = {"data": "cars/", "model": "timm:resnet18", "out": "runs/a"}

pytestmark = pytest.mark.usefixtures("own_catalog")


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package for this test; its modules are forgotten afterwards."""
    modules = set(sys.modules)

    def install(name="puller", methods=None, version="1.0", **code):
        site = write_package(tmp_path / f"{name}-{version}", name, methods or {"pull": "puller"}, code or {"puller": PULL}, version)
        monkeypatch.syspath_prepend(site)
        return site

    yield install
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def test_a_published_method_is_known_by_name_without_being_imported(install):
    install(puller="raise RuntimeError('imported')")
    (found,) = published()["pull"]
    assert (found.package, found.version, found.target) == ("puller", "1.0", "puller")
    assert "pull" in known_methods() - METHODS.keys()
    assert parse_methods("fnp")
    with pytest.raises(ConfigError, match=r"unknown method 'pul'\. Did you mean 'pull'\? Known: .*, pull,"):
        parse_methods("pul")
    assert "puller" not in sys.modules


def test_a_chosen_method_is_imported_and_behaves_like_any(install):
    install()
    config = resolve([command_line({**NEEDED, "method": "pull+fnp", "method.pull.strength": "3"})])
    assert config.method[1] == {"name": "pull", "weight": 0.25, "strength": 3.0}
    assert METHODS["pull"].package == "puller"
    assert METHODS["pull"].load().__name__ == "Pull"
    assert config.plugin == []
    with pytest.raises(ConfigError, match=r"--method\.strengths: method 'pull' has no option 'strengths'\. Did you mean 'strength'"):
        resolve([command_line({**NEEDED, "method": "pull", "method.strengths": "3"})])


def test_an_entry_point_may_name_the_class(install):
    install(methods={"pull": "puller:Pull"})
    assert method_record("pull").summary == "pulls"


def test_one_module_may_register_several_published_methods(install):
    install(methods={"pull": "puller", "push": "puller"}, puller=PULL + PULL.replace('"pull"', '"push"').replace("Pull", "Push"))
    assert [entry["name"] for entry in parse_methods("push+pull")] == ["plain", "push", "pull"]
    assert method_record("pull").package == method_record("push").package == "puller"


def test_an_option_of_a_published_method_that_is_not_chosen_says_how_to_choose_it(install):
    install()
    with pytest.raises(ConfigError, match=r"--method\.pull\.strength: the method of this run is plain\+fnp; add 'pull' to it"):
        resolve([command_line({**NEEDED, "method": "fnp", "method.pull.strength": "3"})])
    assert "puller" not in sys.modules


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'."),
        ("raise ValueError('bad\\nnews')", "ValueError: bad news."),
        ("raise SystemExit(3)", "SystemExit: 3."),
        ("x = (", "SyntaxError: '(' was never closed."),
        (PULL + "\nmissing", "NameError: name 'missing' is not defined."),
        (PULL.replace('"pull"', '"plain"'), "register: the method 'plain' exists already (holdfast.losses.cross_entropy:CrossEntropy)"),
    ],
)
def test_a_package_that_cannot_be_imported_is_named_when_it_is_chosen(install, code, sentence):
    install(puller=code)
    before = dict(METHODS)
    for _ in range(2):  # what a failed import has registered is taken back, so the second attempt says the same
        with pytest.raises(ConfigError) as caught:
            resolve([command_line({**NEEDED, "method": "pull"})])
        assert str(caught.value).startswith(f"--method: the method 'pull' of the package puller 1.0 cannot be imported: {sentence}")
        assert "\n" not in str(caught.value)
        assert before == METHODS
    assert parse_methods("fnp+l2-sp")


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("puller:Missing", "cannot be imported: AttributeError: module 'puller' has no attribute 'Missing'"),
        ("no module", "cannot be imported: "),
    ],
)
def test_a_target_that_does_not_exist_is_the_packages_fault(install, target, sentence):
    install(methods={"pull": target})
    with pytest.raises(ConfigError, match=f"the method 'pull' of the package puller 1.0 {sentence}"):
        method_record("pull")


@pytest.mark.parametrize(("code", "instead"), [("", "no method"), (PULL.replace('"pull"', '"push"'), "only push")])
def test_a_package_that_registers_something_else_is_named(install, code, instead):
    install(puller=code)
    with pytest.raises(
        ConfigError, match=rf"the package puller 1\.0 promises a method 'pull', but importing 'puller' registers {instead}\.$"
    ):
        method_record("pull")
    assert "push" not in METHODS


def test_two_packages_with_one_name_are_both_named(install):
    install()
    install("other", {"pull": "other", "shove": "other"}, "2.1", other=PULL.replace('"pull"', '"shove"'))
    message = r"--method: the method 'pull' is published by other 2\.1 and by puller 1\.0; uninstall all but one of these packages\."
    with pytest.raises(ConfigError, match=message):
        resolve([command_line({**NEEDED, "method": "pull"})])
    assert parse_methods("shove")[1]["name"] == "shove"


def test_one_package_twice_on_the_path_counts_once(install, tmp_path, monkeypatch):
    install(version="0.9")
    install(version="1.0")
    assert [str(found) for found in published()["pull"]] == ["puller 1.0"]


def test_a_package_cannot_take_a_name_of_holdfast(install, caplog):
    install(methods={"fnp": "puller", "pull": "puller"})
    own = METHODS["fnp"]
    with caplog.at_level(logging.WARNING, "holdfast"):
        parse_methods("l2-sp")
        assert not caplog.messages
        parse_methods("fnp")
    assert caplog.messages == ["the package puller 1.0 publishes a method 'fnp' too; holdfast's own is used."]
    assert METHODS["fnp"] is own
    assert "puller" not in sys.modules


def test_a_method_of_a_file_wins_over_a_package_and_says_so(install, tmp_path, caplog):
    install(puller="raise RuntimeError('imported')")
    (tmp_path / "mine.py").write_text(PULL.replace("2.0", "5.0"))
    with caplog.at_level(logging.WARNING, "holdfast"):
        config = resolve([command_line({**NEEDED, "method": "pull", "plugin": [str(tmp_path / "mine.py")]})])
    assert config.method[1]["strength"] == 5.0
    assert caplog.messages == ["the package puller 1.0 publishes a method 'pull' too; the one of your file is used."]


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[holdfast.regularizers]\nno equals sign\n"])
def test_unreadable_metadata_of_one_package_leaves_the_others_alone(install, content):
    site = install()
    (broken,) = install("broken", {"x": "y"}, broken="").glob("*.dist-info")
    (broken / "entry_points.txt").write_bytes(content)
    assert list(published()) == ["pull"]
    (site / "puller-1.0.dist-info" / "METADATA").unlink()
    assert "fnp" in known_methods()
