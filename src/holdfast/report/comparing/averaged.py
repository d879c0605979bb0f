"""What averaging the weights of the finished runs has given."""

from __future__ import annotations

from holdfast.averaging.record import FILE, Group, read_averages
from holdfast.averaging.words import COLUMNS, FOOTNOTE, words
from holdfast.report.blocks import Block, Section, Table, Text
from holdfast.report.compared import SettingView

__all__ = ["averages"]


def averages(view: SettingView) -> Section | None:
    """A table for each data seed; None where nothing was averaged.

    Raises:
        RunError: ``averages.json`` is damaged.
    """
    folder = view.compared.path
    if not (folder / FILE).is_file():
        return None
    setting = view.compared.comparison.settings[view.place]
    here = (setting.data, setting.model, setting.fraction)
    groups = [group for group in read_averages(folder).groups if (group.data, group.model, group.fraction) == here]
    if not groups:
        return None
    return Section(
        "averages",
        "Averages of weights",
        "Weights between the start and a run (WiSE-FT), of several runs together (greedy soup), and of runs and start by their angles "
        "(Model Stock). Every choice was made on validation; the test split was read once for each.",
        f"{FOOTNOTE} The best run is that on validation. Many averages were tried, so that one that is a little better may be luck.",
        [block for group in groups for block in _blocks(group, several=len(groups) > 1)],
    )


def _blocks(group: Group, *, several: bool) -> list[Block]:
    where = f", data seed {group.data_seed}" if several else ""
    if group.note:
        return [Text(f"None{where}: {group.note}")]
    saved = "No average was better on validation than the best run." if group.saved is None else f"The best on validation is {group.saved}."
    table = Table(
        f"Averages beside the runs they are of{where}", COLUMNS, [list(words(row)) for row in group.averages], text_columns=(1, 6)
    )
    return [table, Text(saved)]
