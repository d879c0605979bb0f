"""Which worker makes which run, with a crew that does as it is told."""

from __future__ import annotations

import itertools
from collections import deque

import pytest

from holdfast.compare import dispatch
from holdfast.compare.cells import Cell, Setting
from holdfast.compare.dispatch import Dispatcher, Ended, Gone, Ready, Refused
from holdfast.compare.work import Attempt
from holdfast.errors import RunError
from holdfast.training.interrupt import StopRequest

DONE = Attempt(None, 2.0)
EXPECTED = Attempt("the data are gone", 1.0)
UNEXPECTED = Attempt("ZeroDivisionError: 1/0", 1.0, may_pass=True)
NODE_LOST, PROCESS_DIED, TOLD_TO_STOP = "node lost", "process died", "told to stop"


def cell(key):
    return Cell("plain", Setting("demo:digits", "demo:glyphnet"), 0, 0, "", False, {}, key)


class FakeCrew:
    """``slots`` workers at a time; ``script`` says how the attempts at a cell end, one after the other, and then all are done."""

    def __init__(self, slots, script=()):
        self.slots = slots
        self.script = {key: deque(ends) for key, ends in dict(script).items()}
        self.numbers = itertools.count()
        self.pending, self.there, self.working = deque(), set(), deque()
        self.given, self.dismissed = [], []
        self.refusal = self.lost_start = None

    def hire(self):
        self.pending.append(next(self.numbers))
        return self.pending[-1]

    def give(self, worker, given):
        assert worker in self.there
        assert worker not in [busy for busy, _ in self.working]
        self.given.append((worker, given.key))
        self.working.append((worker, given.key))

    def dismiss(self, worker):
        self.dismissed.append(worker)
        self.there.discard(worker)
        self.pending = deque(number for number in self.pending if number != worker)

    def listen(self, seconds):
        if self.pending and len(self.there) < self.slots:
            worker = self.pending.popleft()
            if self.lost_start:
                return Gone(worker, self.lost_start, blameless=True)
            if self.refusal:
                return Refused(worker, self.refusal)
            self.there.add(worker)
            return Ready(worker)
        assert self.working, "the dispatcher waits for nothing"
        return self.end(*self.working.popleft())

    def end(self, worker, key):
        ends = self.script.get(key)
        end = ends.popleft() if ends else DONE
        if isinstance(end, Attempt):
            return Ended(worker, end)
        if end == TOLD_TO_STOP:
            return Ended(worker, None)
        self.there.remove(worker)
        return Gone(worker, end, blameless=end == NODE_LOST)


def run(crew, keys, **options):
    outcomes = Dispatcher(crew, StopRequest(), **options).run([cell(key) for key in keys])
    return {outcome.cell.key: outcome for outcome in outcomes}


def test_every_cell_is_made_once_by_workers_that_stay():
    crew = FakeCrew(2)
    outcomes = run(crew, "abcde")
    assert sorted(outcomes) == list("abcde")
    assert {(outcome.error, outcome.seconds, outcome.attempts) for outcome in outcomes.values()} == {(None, 2.0, 1)}
    assert sorted(key for _, key in crew.given) == list("abcde")
    assert {worker for worker, _ in crew.given} == crew.there


def test_workers_that_never_found_room_are_let_go_at_the_end_and_the_others_kept():
    crew = FakeCrew(2)
    dispatcher = Dispatcher(crew, StopRequest())
    assert len(list(dispatcher.run([cell(key) for key in "abcd"]))) == 4
    assert len(crew.there) == 2
    assert not crew.pending
    assert not crew.there.intersection(crew.dismissed)
    assert len(list(dispatcher.run([cell(key) for key in "ef"]))) == 2
    assert {worker for worker, _ in crew.given[4:]} <= {worker for worker, _ in crew.given[:4]}


def test_a_lost_node_is_not_the_fault_of_its_cell():
    crew = FakeCrew(2, {"b": [NODE_LOST] * 7})
    outcome = run(crew, "abc")["b"]
    assert (outcome.error, outcome.attempts) == (None, 8)
    assert len({worker for worker, key in crew.given if key == "b"}) == 8


def test_a_cell_is_not_started_for_ever(monkeypatch):
    monkeypatch.setattr(dispatch, "MOST_STARTS", 4)
    outcome = run(FakeCrew(1, {"a": [NODE_LOST] * 9}), "a")["a"]
    assert (outcome.error, outcome.attempts) == (NODE_LOST, 4)


def test_a_cell_whose_process_dies_twice_is_given_up_and_the_others_go_on():
    outcomes = run(FakeCrew(1, {"a": [PROCESS_DIED] * 9}), "abc")
    assert (outcomes["a"].error, outcomes["a"].attempts) == (PROCESS_DIED, 2)
    assert outcomes["b"].error is None
    assert outcomes["c"].error is None


def test_lost_nodes_and_dead_processes_are_counted_apart():
    outcome = run(FakeCrew(1, {"a": [NODE_LOST, PROCESS_DIED, NODE_LOST, NODE_LOST]}), "a")["a"]
    assert (outcome.error, outcome.attempts) == (None, 5)


def test_what_may_pass_is_tried_again_and_what_was_raised_on_purpose_is_not():
    outcomes = run(FakeCrew(2, {"a": [UNEXPECTED], "b": [UNEXPECTED] * 2, "c": [EXPECTED]}), "abc")
    assert (outcomes["a"].error, outcomes["a"].attempts, outcomes["a"].seconds) == (None, 2, 3.0)
    assert (outcomes["b"].error, outcomes["b"].attempts) == (UNEXPECTED.error, 2)
    assert (outcomes["c"].error, outcomes["c"].attempts) == (EXPECTED.error, 1)


def test_a_full_disk_is_told_of_as_such():
    assert run(FakeCrew(1, {"a": [Attempt("no space left", 1.0, stops=True)]}), "ab")["a"].stops


def test_a_worker_that_was_told_to_stop_gets_nothing_more_and_its_cell_goes_on_elsewhere():
    crew = FakeCrew(1, {"a": [TOLD_TO_STOP] * 3})
    outcome = run(crew, "ab")["a"]
    assert (outcome.error, outcome.attempts) == (None, 4)
    first = [worker for worker, key in crew.given if key == "a"][:3]
    assert len(set(first)) == 3
    assert set(first) <= set(crew.dismissed)


def test_no_more_workers_than_asked_for_or_than_there_is_work():
    crew = FakeCrew(100)
    run(crew, map(str, range(30)), most=3)
    assert next(crew.numbers) == 3
    crew = FakeCrew(100)
    run(crew, "ab")
    assert next(crew.numbers) == 2


def test_a_crew_grows_with_what_it_has_at_work():
    crew = FakeCrew(1000)
    dispatcher = Dispatcher(crew, StopRequest())
    asked = []
    crew.hire = lambda hire=crew.hire: asked.append((len(crew.pending), len(crew.working))) or hire()
    assert len(list(dispatcher.run([cell(str(number)) for number in range(400)]))) == 400
    assert asked[:17] == [*((pending, 0) for pending in range(16)), (15, 1)]
    assert max(pending for pending, _ in asked) > 100
    assert all(pending < max(16, working) for pending, working in asked)


def test_room_that_comes_later_is_used():
    crew = FakeCrew(1)
    outcomes = Dispatcher(crew, StopRequest()).run([cell(key) for key in "abcdef"])
    next(outcomes)
    crew.slots = 3
    list(outcomes)
    assert len({worker for worker, _ in crew.given}) == 3


def test_where_nobody_can_work_the_reason_is_said():
    crew = FakeCrew(2)
    crew.refusal = "--out x: node n does not see this directory"
    with pytest.raises(RunError, match="node n does not see"):
        run(crew, "ab")


def test_a_bad_node_does_not_stop_those_at_work(caplog):
    crew = FakeCrew(1)
    outcomes = Dispatcher(crew, StopRequest()).run([cell(key) for key in "abcdef"])
    next(outcomes)
    crew.slots, crew.refusal = 2, "node n has holdfast 0.0"
    assert len(list(outcomes)) == 5
    assert [record.message for record in caplog.records] == ["no more workers are started: node n has holdfast 0.0"]


def test_workers_that_die_before_they_begin_are_not_hired_for_ever():
    crew = FakeCrew(2)
    crew.lost_start = "out of memory"
    with pytest.raises(RunError, match="5 workers in a row died before they could begin; the last: out of memory"):
        run(crew, "ab")


def test_it_ends_early_where_somebody_asks_to_stop():
    stop = StopRequest()
    outcomes = Dispatcher(FakeCrew(1), stop).run([cell(key) for key in "abc"])
    next(outcomes)
    stop.signal = "SIGTERM"
    assert list(outcomes) == []
