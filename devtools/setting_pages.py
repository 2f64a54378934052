"""Write .env.example and the tables of docs/configuration.md from the declaration of the settings.

`python -m devtools.setting_pages` (make settings) writes both files; `tests/unit/test_setting_pages.py` compares them.
"""

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sagaproject import environment
from sagaproject.env import ROOT
from sagaproject.setting import Setting, settings_of

PAGE = ROOT / "docs" / "configuration.md"
EXAMPLE = ROOT / ".env.example"
_WIDTH = 118
_HEAD = """\
# Every setting with its default. docs/configuration.md describes each; an empty value is the default.
# Copy to .env for docker compose. Put no secrets here: NAME_FILE is the path of a file that contains the secret.
# Written by `make settings` from sagaproject/environment.py: change that file.
"""


def page(text: str) -> str:
    """Return the text of docs/configuration.md with the tables of all sections as they should be."""
    for title, groups in environment.SECTIONS:
        begin, end = f"<!-- settings: {title} -->\n", "<!-- end of settings -->\n"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"{PAGE.name} has no region of the settings of {title!r}")
        text = f"{before}{begin}{_table(groups)}{end}{after}"
    return text


def example() -> str:
    """Return the text of .env.example: what has an example is set, everything else stands as a comment."""
    parts = [_HEAD]
    for title, groups in environment.SECTIONS:
        if environment.StackSettings in groups:
            continue  # the image does not contain the embedded stack
        parts.append(f"\n# {title} {'-' * (_WIDTH - len(title) - 1)}\n")
        for name, help_text in described(groups):
            parts += _comment(_first_sentence(help_text)), _line(name)
    return "".join(parts)


def described(groups: tuple[type[Any], ...]) -> Iterator[tuple[Setting, str]]:
    """Yield each setting with its description, but not those that name the file of a secret."""
    every = [(group, name, setting) for group in groups for name, setting in settings_of(group)]
    files = {f"{setting.name}_FILE" for _, _, setting in every if setting.is_secret}
    texts = {group: descriptions(group) for group in groups}
    for group, name, setting in every:
        if setting.name not in files:
            yield setting, texts[group][name]


def descriptions(group: type[Any]) -> Mapping[str, str]:
    """Return the string under each field of a group, in one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(group))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            found[field.target.id] = " ".join(ast.literal_eval(below.value).split())
    return found


def _table(groups: tuple[type[Any], ...]) -> str:
    rows = ["| name | default | accepted | meaning |", "|---|---|---|---|"]
    for setting, help_text in described(groups):
        required = " Required in prod." if setting.required else ""
        rows.append(f"| `{setting.name}` | {_default(setting)} | {setting.accepted} | {help_text}{required} |")
    return "\n".join(rows) + "\n"


def _default(setting: Setting) -> str:
    """Return the default as people read it: that of production, and that of development where it differs."""
    if setting.shown or setting.is_secret:
        return setting.shown or "–"
    default = _code(setting.default)
    if setting.dev is None:
        return default or "–"
    return f"{default}, in dev {_code(setting.dev)}" if default else f"{_code(setting.dev)} in dev"


def _code(value: Any) -> str:
    text = _plain(value)
    return f"`{text}`" if text else ""


def _plain(value: Any) -> str:
    """Return a default as the environment would give it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if value else "0" if value == 0 else ""


def _line(setting: Setting) -> str:
    if setting.is_secret:
        return f"# {setting.name}_FILE=/run/secrets/{setting.name.lower()}\n"
    if setting.example:
        return f"{setting.name}={setting.example}\n"
    return f"# {setting.name}={'' if setting.shown else _plain(setting.default)}\n"


def _comment(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False) + "\n"


def _first_sentence(text: str) -> str:
    head, stop, _ = text.replace("`", "").partition(". ")
    return head + stop.strip()


def main() -> None:
    """Write both files."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    EXAMPLE.write_text(example(), encoding="utf-8")
    for path in (PAGE, EXAMPLE):
        sys.stdout.write(f"{Path(path).relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
