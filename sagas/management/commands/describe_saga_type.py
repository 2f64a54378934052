"""manage.py describe_saga_type: a saga type as a table, as data, or as a diagram."""

from django.core.management.base import CommandParser

from sagas import confirmations
from sagas.definitions import describe, registry, type_names
from sagas.management.cli_base import DONE, OperatorCommand, Options
from sagas.management.output import as_json


class Command(OperatorCommand):
    help = "Print a saga type as a table, as data (--json) or as a diagram (--mermaid). Without a name: list all."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", help="for example image_processing or IMAGE_PROCESSING")
        parser.add_argument("--definition-version", type=int, help="a version other than the newest")
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--mermaid", action="store_true", help="a Mermaid flowchart")
        form.add_argument(
            "--json",
            action="store_true",
            help="one JSON object: {name, title, version, key_field, entity_field, events, commands}; "
            "without a name {definitions: [{name, title, version}]}",
        )

    def act(self, options: Options) -> int:
        if options["name"] is None:
            return self._list(as_data=options["json"])
        version = options["definition_version"]
        name = type_names.stored(options["name"])
        listed = registry.current(name) if version is None else registry.get(name, version)
        definition = confirmations.in_force(listed)
        if options["json"]:
            text = as_json(describe.data(definition), indent=2)
        else:
            text = describe.mermaid(definition) if options["mermaid"] else describe.table(definition)
        for line in text.split("\n"):
            self.tell(line)
        return DONE

    def _list(self, *, as_data: bool) -> int:
        known = [{"name": d.name, "title": d.title, "version": d.version} for d in registry.all_definitions()]
        if as_data:
            self.tell_data({"definitions": known})
        else:
            for item in known:
                self.tell(f"{item['name']} version {item['version']}: {item['title']}")
        return DONE
