"""Votes of a dataset, from wherever they come: a column ``votes``, a column for each annotator, or rules."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from holdfast.data.source import list_some
from holdfast.errors import DataError
from holdfast.labels.arrays import ABSTAIN, IntArray
from holdfast.labels.examples import Examples
from holdfast.labels.rules import Rule, apply_rules

__all__ = ["Voted", "known_classes", "votes_of_columns", "votes_of_rules", "votes_of_votes"]

log = logging.getLogger("holdfast")


@dataclass(frozen=True)
class Voted:
    """A vote matrix with the names behind its numbers.

    Args:
        votes: Classes (N, M), -1 for no vote.
        voters: Names of the M voters.
        classes: Names of the classes.
    """

    votes: IntArray
    voters: tuple[str, ...]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if not (self.votes != ABSTAIN).any():
            raise DataError("no voter votes on any row; check the rules or the columns that hold the votes.")
        if len(self.classes) < 2:
            raise DataError(f"there is only one class, {self.classes[0]!r}, so there is nothing to vote on; name all with --classes.")


def known_classes(examples: Examples, classes: Sequence[str] | None, voted: Sequence[str] = ()) -> tuple[str, ...]:
    """The classes that may be voted for: those named, else those of the labels, else those that are voted for."""
    return tuple(sorted(set(classes or examples.classes or voted)))


def votes_of_rules(examples: Examples, rules: Sequence[Rule], classes: Sequence[str] | None) -> Voted:
    """Votes of labeling functions on texts.

    Raises:
        DataError: The rows are no texts, a rule fails, or it votes for an unknown class.
    """
    if examples.texts is None:
        raise DataError(f"--rules: {examples.spec} holds images, and rules read texts; give a table with a column 'text'.")
    names = known_classes(examples, classes, [name for rule in rules for name in rule.classes])
    if not names:
        raise DataError("--rules: the classes are not known, since there are no labels; name them, such as --classes ham,spam.")
    votes = apply_rules(rules, examples.texts, names, where=examples.where)
    return Voted(votes, tuple(rule.name for rule in rules), names)


def votes_of_votes(examples: Examples, classes: Sequence[str] | None) -> Voted:
    """Votes of the column ``votes``, an object such as ``{"ann1": "spam", "ann2": "ham"}`` in each row.

    Raises:
        DataError: A cell is no such object, or a vote is for an unknown class; the message names the row.
    """
    cells = examples.columns.get("votes")
    if cells is None:
        raise DataError(f"{examples.spec}: there is no column 'votes'; name the columns of the annotators with --voters, or give --rules.")
    rows = [_vote_object(examples, row, cell) for row, cell in enumerate(cells)]
    voters = sorted(
        {voter for row in rows for voter in row}, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)
    )
    return _voted(examples, {voter: [row.get(voter, "") for row in rows] for voter in voters}, classes)


def votes_of_columns(examples: Examples, voters: Sequence[str], classes: Sequence[str] | None) -> Voted:
    """Votes of a column for each annotator; an empty cell is no vote.

    Raises:
        DataError: There is no such column, or a vote is for an unknown class.
    """
    found = _voted(examples, {voter: list(examples.column(voter, "--voters")) for voter in voters}, classes)
    for number, voter in enumerate(voters):
        said = set(found.votes[:, number].tolist()) - {ABSTAIN}
        if not said:
            log.warning("--voters: the column %r is empty, so it tells nothing", voter)
        elif len(said) == 1:
            log.warning(
                "--voters: the column %r says %r wherever it says anything, so it tells no classes apart", voter, found.classes[said.pop()]
            )
    return found


def _voted(examples: Examples, columns: dict[str, list[str]], classes: Sequence[str] | None) -> Voted:
    names = known_classes(examples, classes, [cell for cells in columns.values() for cell in cells if cell])
    if not columns or not names:
        raise DataError(f"{examples.spec}: no row holds a vote.")
    votes = [examples.indices(cells, names, f"the vote of {voter!r}") for voter, cells in columns.items()]
    return Voted(np.stack(votes, axis=1), tuple(columns), names)


def _vote_object(examples: Examples, row: int, cell: str) -> dict[str, str]:
    if not cell:
        return {}
    place = f"{examples.spec}, {examples.where(row)}"
    try:
        value: Any = json.loads(cell)
    except ValueError:
        raise DataError(f'{place}: the votes {cell[:60]!r} cannot be read; expected an object such as {{"ann1": "spam"}}.') from None
    if not isinstance(value, dict):
        raise DataError(f'{place}: the votes are {cell[:60]!r}; expected an object such as {{"ann1": "spam"}}.')
    nested = [voter for voter, vote in value.items() if isinstance(vote, list | dict)]
    if nested:
        raise DataError(f"{place}: the vote of {list_some(nested, 1)} is no single class.")
    return {voter: "" if vote is None or vote == ABSTAIN else str(vote) for voter, vote in value.items()}
