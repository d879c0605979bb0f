from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from holdfast.errors import ConfigError, DataError
from holdfast.labels.transition import (
    check_correctable,
    check_transition,
    cond,
    inverse,
    is_singular,
    pair,
    read_transition,
    rho,
    symmetric,
    write_transition,
)

F = np.array([[0.8, 0.15, 0.05], [0.1, 0.7, 0.2], [0.0, 0.3, 0.7]])


@pytest.mark.parametrize("classes", [2, 5, 1000])
def test_closed_forms_replace_labels_at_the_rate(classes: int) -> None:
    others, own, cyclic = symmetric(classes, 0.3), symmetric(classes, 0.3, self_flips=True), pair(classes, 0.3)
    for matrix, kept in ((others, 0.7), (own, 0.7 + 0.3 / classes), (cyclic, 0.7)):
        np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-12)
        np.testing.assert_allclose(matrix.diagonal(), kept, rtol=1e-12)
    assert others[0, 1] == pytest.approx(0.3 / (classes - 1))
    assert own[0, 1] == pytest.approx(0.3 / classes)
    assert cyclic[0, 1] == cyclic[classes - 1, 0] == pytest.approx(0.3)


@pytest.mark.parametrize(("classes", "rate"), [(10, 0.4), (2, 0.4), (4, 0.1)])
def test_symmetric_noise_has_the_inverse_of_the_closed_form(classes: int, rate: float) -> None:
    scale = 1 - rate * classes / (classes - 1)
    expected = (np.eye(classes) - rate / (classes - 1) * np.ones((classes, classes))) / scale
    np.testing.assert_allclose(inverse(symmetric(classes, rate)), expected, rtol=1e-10, atol=1e-12)
    assert rho(symmetric(classes, rate)) == pytest.approx((1 - rate / (classes - 1) + rate) / scale)


def test_inverse_and_condition_are_those_of_the_matrix(caplog) -> None:
    np.testing.assert_allclose(inverse(F) @ F, np.eye(3), atol=1e-12)
    assert rho(F) == pytest.approx(max(sum(abs(entry) for entry in row) for row in np.linalg.inv(F)))
    assert cond(F) == pytest.approx(np.linalg.cond(F))
    assert not is_singular(F)
    assert not caplog.records


def test_a_singular_matrix_gets_the_pseudo_inverse_and_a_warning(caplog) -> None:
    matrix = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.2, 0.8]])
    assert is_singular(matrix)
    assert cond(matrix) == float("inf")
    with caplog.at_level(logging.WARNING, logger="holdfast"):
        found = inverse(matrix)
    np.testing.assert_allclose(matrix @ found @ matrix, matrix, atol=1e-12)
    assert "the matrix is singular" in caplog.text
    np.testing.assert_allclose(inverse(np.full((4, 4), 0.25)), np.full((4, 4), 0.25), atol=1e-12)


def test_ridge_shrinks_the_inverse_and_needs_none() -> None:
    singular = np.full((2, 2), 0.5)
    np.testing.assert_allclose((singular.T @ singular + 0.1 * np.eye(2)) @ inverse(singular, ridge=0.1), singular.T, atol=1e-12)
    assert np.abs(inverse(F, ridge=1.0)).sum() < np.abs(inverse(F)).sum()


@pytest.mark.parametrize(
    ("matrix", "sentence"),
    [
        (F[:2], "expected a square matrix, a row for each true and a column for each observed class, got 2 x 3"),
        (F[0], "expected a square matrix, .*, got 3"),
        (np.zeros((0, 0)), "expected a square matrix"),
        (0.5, "got a single number"),
        ([[1.0], [0.5, 0.5]], "rows of equal length"),
        ([["a", "b"], ["c", "d"]], "expected a matrix of numbers"),
        (np.where(F == 0.2, np.nan, F), "row 1, column 2 is nan; expected probabilities"),
        (np.where(F == 0.2, -0.2, F), "row 1, column 2 is -0.2; expected probabilities"),
        (F + np.diag([0, 0, 2e-6]), "row 2 sums to 1, expected 1|row 2 sums to 1.00000"),
        (np.diag([1.0, 0.5]), "row 1 sums to 0.5, expected 1; divide each row by its sum if these are counts"),
        (F.T, "row 0 sums to 0.9, expected 1; its columns do: transpose it, rows are true classes"),
    ],
)
def test_what_is_no_transition_matrix_is_refused_by_row(matrix, sentence: str) -> None:
    with pytest.raises(DataError, match=f"the matrix: .*({sentence})"):
        check_transition(matrix, "the matrix")


def test_rows_may_miss_one_by_rounding_and_the_argument_stays_as_it_is(caplog) -> None:
    given = F + np.diag([9e-7, 0, 0])
    kept = given.copy()
    found = check_transition(given)
    found[0, 0] = 5
    assert np.array_equal(given, kept)
    assert not caplog.records


def test_fragile_matrices_are_said_to_be(caplog) -> None:
    with caplog.at_level(logging.WARNING, logger="holdfast"):
        check_transition(np.array([[0.5004, 0.4996], [0.5, 0.5]]), "F.csv")
        assert "F.csv: the condition number is" in caplog.text
        caplog.clear()
        check_transition(pair(3, 0.6), "F.csv")
    assert "F.csv: class 0 is observed as class 1 more often than as itself (row 0, and 2 more)" in caplog.text


def test_hopeless_matrices_are_refused_unless_forced(caplog) -> None:
    check_correctable(F)
    check_correctable(symmetric(10, 0.8))  # rho 15.2
    for matrix, sentence in ((np.full((3, 3), 1 / 3), "the matrix is singular"), (symmetric(10, 0.86), r"rho is 39.7, .* more than 20")):
        with pytest.raises(DataError, match=f"F.csv: {sentence}.*force=true"):
            check_correctable(matrix, "F.csv")
        check_correctable(matrix, "F.csv", force=True)
    assert caplog.text.count("used all the same, as asked") == 2


@pytest.mark.parametrize("suffix", ["csv", "npy", "npz", "json", "JSON"])
def test_a_file_gives_back_what_was_written(tmp_path, suffix: str) -> None:
    path = tmp_path / f"F.{suffix}"
    write_transition(path, F, classes=("ant", "bee", "fly"))
    assert np.array_equal(read_transition(path, 3), F)
    write_transition(path, F)
    assert np.array_equal(read_transition(str(path), 3), F)


def test_other_forms_of_files_are_read(tmp_path) -> None:
    np.savez(tmp_path / "one.npz", anything=F)
    (tmp_path / "rows.json").write_text(json.dumps(F.tolist()))
    (tmp_path / "comment.csv").write_text("# estimated\n0.9, 0.1\n\n0.2,0.8\n")
    assert np.array_equal(read_transition(tmp_path / "one.npz", 3), F)
    assert np.array_equal(read_transition(tmp_path / "rows.json", 3), F)
    assert np.array_equal(read_transition(tmp_path / "comment.csv", 2), [[0.9, 0.1], [0.2, 0.8]])


def test_forms_are_read() -> None:
    assert np.array_equal(read_transition("symmetric:0.4", 5), symmetric(5, 0.4))
    assert np.array_equal(read_transition("pair:0.25", 5), pair(5, 0.25))


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("symmetric:1.5", "expected symmetric:RATE with a rate from 0 to 1, such as symmetric:0.4, got 'symmetric:1.5'"),
        ("pair:", "expected pair:RATE with a rate from 0 to 1"),
        ("pair:nan", "got 'pair:nan'"),
        ("matrix.txt", "expected symmetric:RATE, pair:RATE or a file ending in .csv, .npy, .npz, .json, got 'matrix.txt'"),
        ("absent.csv", "--method.transition 'absent.csv': No such file or directory"),
    ],
)
def test_what_names_no_matrix_is_refused(spec: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"--method.transition.*{sentence.removeprefix('--method.transition ')}"):
        read_transition(spec, 3, name="--method.transition")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("F.csv", b"a,b\n0.5,0.5\n", "expected numbers joined by commas"),
        ("F.json", b"{", "expected a JSON list of rows"),
        ("F.json", b"{}", "there is no entry 'transition' in the file"),
        ("F.npy", b"nothing", "expected a NumPy array without pickled objects"),
        ("F.npz", b"", "expected a NumPy array without pickled objects"),
        ("F.csv", b"1,0\n0,1\n", "the matrix is for 2 classes, but the data has 3"),
        ("F.csv", b"", "expected a square matrix"),
    ],
)
def test_files_without_a_matrix_of_these_classes_are_refused(tmp_path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read_transition(tmp_path / name, 3)


def test_pickled_arrays_are_not_opened(tmp_path) -> None:
    np.save(tmp_path / "F.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="without pickled objects"):
        read_transition(tmp_path / "F.npy", 3)


def test_files_of_other_kinds_are_not_written(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"expected a file ending in \.csv"):
        write_transition(tmp_path / "F.txt", F)


@pytest.mark.parametrize("make", [symmetric, pair])
def test_rates_and_classes_are_checked(make) -> None:
    with pytest.raises(ConfigError, match="at least 2 classes, got 1"):
        make(1, 0.2)
    with pytest.raises(ConfigError, match="expected a rate from 0 to 1"):
        make(3, -0.1)
