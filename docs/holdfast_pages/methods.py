"""The page of a method, and the tables of all methods: of the site and of the README."""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.catalog import Method, Option
from holdfast.cli.terminal import wrapped_command
from holdfast_pages.markdown import choices, code, prose, table

__all__ = ["command", "method_page", "overview", "readme_table"]

PLACE = {
    "task loss": "Task loss: takes the place of the cross-entropy. An objective has exactly one; regularizers are joined to it by `+`.",
    "regularizer": "Regularizer: added to the task loss, which is the cross-entropy unless another is named. Several are joined by `+`.",
    "model transform": "Model transform: changes the network while it trains. It is joined to losses and regularizers by `+`.",
}


def overview(records: Iterable[Method]) -> str:
    """The page ``methods/index.md``: a table, and the pages of all methods below it."""
    records = list(records)
    rows = [(f"[`{each.name}`]({each.name}.md)", each.kind, prose(each.summary), _needs(each), prose(each.cost)) for each in records]
    listed = "\n".join(each.name for each in records)
    return f"""# Methods

What `--method` takes. {_JOINING}

{table(("name", "kind", "what it does", "needs", "cost of a step, plain = 1"), rows)}

`holdfast list methods` prints the same list with the methods of installed packages, and `holdfast explain METHOD` what stands on a
method's page.

```{{toctree}}
:hidden:

{listed}
```
"""


_JOINING = (
    "`--method adarand+l2-sp` joins regularizers; `--method.adarand.weight 0.5` sets an option of one of them, "
    "`--method.weight 0.5` that of a single method."
)


def readme_table(records: Iterable[Method]) -> str:
    """The table of methods in the README."""
    rows = [(code(each.name), prose(each.summary), _needs(each), prose(each.cost)) for each in records]
    return table(("name", "what it does", "needs", "cost of a step, plain = 1"), rows)


def method_page(record: Method) -> str:
    """The page ``methods/NAME.md``."""
    parts = [
        f"# `{record.name}`",
        _sentence(record.summary),
        PLACE.get(record.kind, ""),
        _section("Objective", f"```text\n{record.objective}\n```" if record.objective else ""),
        _section("Options", _options(record)),
        _section("Needs", _sentence(record.needs)),
        _section("Cost of a step", _sentence(record.cost)),
        _section("Good for", _sentence(record.good_for)),
        _section("Watch out", _sentence(record.caveats)),
        _section("How to use it", _usage(record)),
        _section("Sources", "\n".join(f"- {prose(source)}" for source in record.sources)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def command(record: Method) -> str:
    """A command line that trains with a method, its first option spelled out."""
    option = next(iter(record.all_options.values()), None)
    given = f" --method.{option.name} {_word(option)}" if option else ""
    return f"holdfast fit cars/ --model timm:resnet50 --method {record.name}{given} --out runs/cars"


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


def _sentence(text: str) -> str:
    return prose(f"{text[:1].upper()}{text[1:].rstrip('.')}.") if text else ""


def _needs(record: Method) -> str:
    return "" if record.needs == "nothing" else prose(record.needs)


def _word(option: Option) -> str:
    return str(option.shown).lower() if isinstance(option.shown, bool) else str(option.shown)


def _options(record: Method) -> str:
    if not record.all_options:
        return "None."
    rows = [
        (code(option.name), code(option.default), _allowed(option), prose(option.help), prose(option.source))
        for option in record.all_options.values()
    ]
    return table(("option", "default", "allowed", "what it does", "source of the default"), rows)


def _allowed(option: Option) -> str:
    return choices(option.choices) or prose(option.expected)


def _usage(record: Method) -> str:
    option = next(iter(record.all_options.values()), None)
    given = f'{{"name": "{record.name}", "{option.name}": {option.shown!r}}}' if option else f'"{record.name}"'
    return f"""On the command line:

```shell
{wrapped_command(command(record), 100)}
```

In a YAML file for `--config`:

```yaml
method:
  - name: {record.name}{f"{chr(10)}    {option.name}: {_word(option)}" if option else ""}
```

From Python:

```python
holdfast.fit("cars/", model="timm:resnet50", method={given}, out="runs/cars")
```

In a loop of your own, where `batches` are the training images without augmentation and `N` the steps of the whole training:

```python
terms = holdfast.attach(model, {f"[{given}]" if option else given}, batches, num_classes=K, total_steps=N)
```"""
