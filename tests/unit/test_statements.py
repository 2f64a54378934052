"""SQL stands in the modules of named statements and nowhere else; each statement has a reason and is used."""

import ast
import re
from functools import cache
from importlib import import_module

import pytest

from bridge.sql import Statement
from sagaproject import env

PACKAGES = ("bridge", "compensation", "sagas", "sagaproject")
MODULES = ("bridge.statements", "compensation.statements", "sagas.statements", "sagaproject.statements")
# The runner of the statements, and the statements of the apply path, each in a named function.
RUNNERS = {"bridge/sql.py", "sagas/applying/statements.py"}
# What begins like SQL, and no sentence does.
SQL = re.compile(
    r"\s*(SELECT\s+\S+.*\bFROM\b|SELECT\s+\w+\(|INSERT\s+INTO\b|UPDATE\s+\w+\s+(\w+\s+)?SET\b|DELETE\s+FROM\b"
    r"|WITH\s+\w+\s+AS\b|SHOW\s+\w+$|SET\s+\w+\s*=|VACUUM\b|LOCK\s+TABLE\b)",
    re.DOTALL,
)
RAW = {"cursor", "RawSQL", "raw", "extra", "executemany", "copy_expert", "callproc"}


@cache
def sources() -> list[tuple[str, ast.Module]]:
    files = [path for package in PACKAGES for path in sorted((env.ROOT / package).rglob("*.py"))]
    return [
        (str(path.relative_to(env.ROOT)), ast.parse(path.read_text(encoding="utf-8")))
        for path in files
        if "migrations" not in path.parts
    ]


def raw_sql(tree: ast.Module) -> list[str]:
    """Return what in a module runs or contains SQL: cursors, raw parts of the ORM's queries, texts of statements."""
    return calls(tree) + [
        f"{node.lineno}: {' '.join(node.value.split())[:40]}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.match(node.value)
    ]


def calls(tree: ast.Module) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = node.func.attr
            if name in RAW or (name == "execute" and "cursor" in ast.unparse(node.func.value)):
                found.append(f"{node.lineno}: {name}()")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RAW:
            found.append(f"{node.lineno}: {node.func.id}()")
    return found


def statements() -> list[tuple[str, str, Statement]]:
    return [
        (module, name, value)
        for module in MODULES
        for name, value in vars(import_module(module)).items()
        if isinstance(value, Statement)
    ]


def test_sql_stands_in_the_modules_of_statements_alone() -> None:
    allowed = {f"{module.replace('.', '/')}.py" for module in MODULES} | RUNNERS
    assert allowed <= {file for file, _ in sources()}
    assert {file: found for file, tree in sources() if file not in allowed and (found := raw_sql(tree))} == {}


def test_the_modules_of_statements_run_none_themselves() -> None:
    files = {f"{module.replace('.', '/')}.py" for module in MODULES}
    assert {file: calls(tree) for file, tree in sources() if file in files} == {file: [] for file in files}


@pytest.mark.parametrize(
    "code",
    [
        'cursor.execute("SELECT 1")',
        "with connection.cursor() as c:\n    c.fetchone()",
        'text = f"SELECT id FROM {table} WHERE id = 1"',
        'text = """\n    DELETE FROM bridge_event\n"""',
        'rows.annotate(x=RawSQL("a", []))',
        'Event.objects.raw("x")',
        'text = "UPDATE sagas_saga s SET a = 1"',
        'text = "SELECT set_config(1)"',
    ],
)
def test_what_counts_as_sql(code: str) -> None:
    assert raw_sql(ast.parse(code))


def test_what_does_not() -> None:
    harmless = 'say("Select a saga from the list."); task.execute(1); text = "with open commands"; f"WITHDRAW {x}"'
    assert raw_sql(ast.parse(harmless)) == []


@pytest.mark.parametrize(("module", "name", "statement"), [pytest.param(*one, id=one[1]) for one in statements()])
def test_each_statement_is_named_has_a_reason_and_is_used(module: str, name: str, statement: Statement) -> None:
    assert re.fullmatch(r"[A-Z]+(_[A-Z]+)*", name)
    assert re.fullmatch(r"[A-Z].{20,140}\.", statement.why), statement.why
    assert name in uses(module.partition(".")[0])


@cache
def uses(package: str) -> set[str]:
    """Return all names that the code of a package reads."""
    found = set()
    for file, tree in sources():
        if file.startswith(f"{package}/"):
            for node in ast.walk(tree):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                    found.add(node.id)
                elif isinstance(node, ast.Attribute):
                    found.add(node.attr)
    return found
