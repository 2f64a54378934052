from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class SagasConfig(AppConfig):
    name = "sagas"
    verbose_name = _("Sagas")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Imported here, because they need the models.
        from sagas import checks  # noqa: F401 (registers the check of the definitions)
        from sagas.management import derived_commands

        derived_commands.install()
