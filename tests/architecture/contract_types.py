"""Two kinds of contracts that import-linter does not have. pyproject.toml names them under `contract_types`."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output
from importlinter.domain.helpers import module_expressions_to_modules


class _ListingContract(Contract):
    """A contract that reports each import that breaks it in a line."""

    def breaches(self, graph: ImportGraph) -> Iterator[tuple[str, str, int]]:
        """Yield (importer, imported, line number) of each import that the contract refuses."""
        raise NotImplementedError

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        found = sorted(set(self.breaches(graph)))
        return ContractCheck(kept=not found, metadata={"breaches": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, imported, line in check.metadata["breaches"]:
            output.print_error(f"{importer} imports {imported} (l. {line})", bold=False)


class ImportsOnly(_ListingContract):
    """The source modules import the standard library, their own package and what is allowed, and nothing else.

    - source_modules: packages and modules, with wildcards. Each of them also covers what is below it.
    - allowed: what they may import besides, with all that is below it.
    """

    type_name = "imports_only"

    source_modules = fields.SetField(subfield=fields.ModuleExpressionField())
    allowed = fields.ListField(subfield=fields.StringField(), required=False)

    def breaches(self, graph: ImportGraph) -> Iterator[tuple[str, str, int]]:
        sources = module_expressions_to_modules(graph, self.source_modules)  # type: ignore[arg-type]
        for root in sorted(source.name for source in sources):
            may: list[str] = [root, *(self.allowed or [])]  # type: ignore[misc]
            for importer in {root, *graph.find_descendants(root)}:
                for imported in graph.find_modules_directly_imported_by(importer):
                    is_standard = imported.partition(".")[0] in sys.stdlib_module_names
                    if not is_standard and not any(_is_within(imported, name) for name in may):
                        details = graph.get_import_details(importer=importer, imported=imported)
                        yield importer, imported, details[0]["line_number"]


class ProtectedPart(_ListingContract):
    """Only the allowed packages import a part of a foreign package, which import-linter knows only as a whole.

    - part: the dotted name of the part, such as django.contrib.admin.
    - allowed_importers: packages and modules that may import it, with all that is below them.
    """

    type_name = "protected_part"

    part = fields.StringField()
    allowed_importers = fields.ListField(subfield=fields.StringField())

    def breaches(self, graph: ImportGraph) -> Iterator[tuple[str, str, int]]:
        part: str = self.part  # type: ignore[assignment]
        allowed: list[str] = self.allowed_importers  # type: ignore[assignment]
        for importer in sorted(graph.find_modules_that_directly_import(part.partition(".")[0])):
            if not any(_is_within(importer, name) for name in allowed):
                for imported, line in _imports(_file(importer)):
                    if _is_within(imported, part):
                        yield importer, imported, line


def _is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _file(module: str) -> Path:
    """Return the file of a module of the tree in the current folder, where lint-imports runs."""
    path = Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _imports(file: Path) -> Iterator[tuple[str, int]]:
    """Yield (dotted name, line number) of what a file imports, also of each name that it imports from a module."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from ((alias.name, node.lineno) for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield from ((f"{module}.{alias.name}", node.lineno) for alias in names)
