"""What cannot work is known before anything starts, and so is what the rest takes."""

from __future__ import annotations

import importlib
import logging

import pytest
from tests.compare.asking import asked, plan
from tests.compare.rows import write_run

from holdfast.compare.events import Probing
from holdfast.compare.forecast import forecast
from holdfast.compare.identity import Identifier
from holdfast.errors import ConfigError, DataError

module = importlib.import_module("holdfast.compare.forecast")

SMALL = {"shots": "3", "epochs": "2", "flip": "false", "device": "cpu", "threads": "1"}


def look(tmp_path, finished=(), events=None, **typed):
    """The forecast of a small comparison on digits."""
    found = plan(asked(**SMALL, **typed))
    return forecast(
        found,
        dict(finished),
        tmp_path / "there",
        workers=2,
        device="the CPU",
        listener=(lambda event: None) if events is None else events.append,
    )


def test_every_method_is_tried_on_every_setting_and_nothing_is_written(tmp_path):
    events = []
    found = look(tmp_path, events=events, methods="plain,adarand", seeds="3")
    assert [(type(event), event.method) for event in events] == [(Probing, "plain"), (Probing, "adarand")]
    assert {estimate.source for estimate in found.estimates.values()} == {"timed"}
    assert (found.total, found.finished, len(found.remaining)) == (6, 0, 6)
    (plain, adarand) = found.estimates.values()
    assert found.seconds == pytest.approx(3 * (plain.seconds + adarand.seconds) / 2)
    assert found.disk > 3 * (plain.disk + adarand.disk) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_method_that_needs_what_the_data_lack_is_named_before_anything_starts(tmp_path):
    with pytest.raises(ConfigError) as caught:
        look(tmp_path, methods="plain,uot")
    assert str(caught.value).startswith(
        "uot on demo:digits with demo:glyphnet: --method uot: needs the data that the network was pretrained on; add --source-data"
    )


def test_a_search_needs_a_validation_split(tmp_path):
    with pytest.raises(ConfigError) as caught:
        look(tmp_path, methods="plain", grid=["lr=0.1,0.2"], val_fraction="0", select="last")
    assert "--grid: trials are chosen on the validation split, and there is none; give --val-fraction, such as 0.1." in str(caught.value)


def test_methods_are_compared_on_a_test_split(tmp_path, monkeypatch):
    from holdfast import recipes

    class Plan:
        n_test, n_val = 0, 9

    monkeypatch.setattr(recipes, "plan_config", lambda config: Plan())
    with pytest.raises(
        DataError, match="plain on demo:digits with demo:glyphnet: demo:digits: there is no test split, on which methods are"
    ):
        look(tmp_path, methods="plain")


def test_of_several_methods_each_message_comes_once(tmp_path, monkeypatch):
    def time(config, *, searched):
        logging.getLogger("holdfast").warning("two images are the same")
        return module.Estimate(1.0, 1.0, 1.0, "timed")

    heard = []
    handler = logging.Handler()
    handler.emit = heard.append
    monkeypatch.setattr(module, "_time", time)
    logging.getLogger("holdfast").addHandler(handler)
    try:
        look(tmp_path, methods="plain,adarand,l2-sp")
    finally:
        logging.getLogger("holdfast").removeHandler(handler)
    assert [record.getMessage() for record in heard] == ["two images are the same"]


def test_where_trying_takes_long_the_other_methods_are_only_checked(tmp_path, monkeypatch):
    timed, checked = [], []
    monkeypatch.setattr(module, "ENOUGH_SECONDS", -1.0)
    monkeypatch.setattr(module, "_time", lambda config, *, searched: timed.append(config) or module.Estimate(7.0, 1.0, 1.0, "timed"))
    monkeypatch.setattr(module, "_check", checked.append)
    found = look(tmp_path, methods="plain,adarand,l2-sp", fractions="0.5,1")
    assert [(config.methods[-1]["name"], config.train_fraction) for config in timed] == [("plain", 0.5), ("plain", None)]
    assert len(checked) == 4
    assert [estimate.source for estimate in found.estimates.values()] == ["timed", "another", "another"] * 2
    assert {estimate.seconds for estimate in found.estimates.values()} == {7.0}


def test_a_check_finds_what_timing_would(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ENOUGH_SECONDS", -1.0)
    monkeypatch.setattr(module, "_time", lambda config, *, searched: module.Estimate(7.0, 1.0, 1.0, "timed"))
    with pytest.raises(ConfigError, match=r"^uot on demo:digits with demo:glyphnet: --method uot: needs the data"):
        look(tmp_path, methods="plain,uot")


def test_a_method_with_a_finished_run_is_not_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_time", lambda config, *, searched: module.Estimate(7.0, 1.0, 1.0, "timed"))
    done = next(cell for cell in plan(asked(**SMALL)).fixed if cell.method == "adarand")
    run = write_run(tmp_path, done, 30, result={"cost": {"seconds_total": 42.0}})
    events = []
    found = look(tmp_path, {done.key: run}, events)
    assert [event.method for event in events] == ["plain"]
    estimate = found.estimates[done.setting, "adarand"]
    assert (estimate.seconds, estimate.source, found.finished) == (42.0, "finished", 1)
    assert estimate.disk > 0


def test_a_finished_comparison_is_not_tried_at_all(tmp_path):
    cells = plan(asked(**SMALL)).fixed
    runs = {cell.key: write_run(tmp_path, cell, 30) for cell in cells}
    found = look(tmp_path, runs)
    assert (found.remaining, found.seconds, found.disk) == ((), 0, 0)


def test_the_fingerprint_of_the_digits_does_not_change_between_processes():
    config = next(iter(plan(asked()).fixed)).options
    from holdfast.config.layers import from_yaml
    from holdfast.config.load import resolve

    found = Identifier().fingerprints(resolve([from_yaml("cell", {**config, "out": "x"})]))
    assert found["data"] == "d53e5dcf9c04c2980484295f4604677d2fb009598c22013188a0610174b1e5a0"
