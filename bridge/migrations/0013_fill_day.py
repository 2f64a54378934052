"""Fill the day of stored events, page by page, each in a transaction of its own: no lock but those of its rows.

Rows of events are added and deleted meanwhile, and never changed by anybody else. May be stopped and started again.
"""

from django.db import OperationalError, migrations, transaction

PAGE = 5000
ATTEMPTS = 10
DEADLOCK = "40P01"  # with retention, which deletes events in an order of its own

LAST_OF_PAGE = "SELECT max(id) FROM (SELECT id FROM bridge_event WHERE id > %s ORDER BY id LIMIT %s) AS page"
ALLOW = "SELECT set_config('bridge.filling', 'on', true), set_config('lock_timeout', '0', true)"
FILL = """
    UPDATE bridge_event SET day = (occurred_at AT TIME ZONE 'UTC')::date
    WHERE id > %s AND id <= %s AND source = 'pulsar' AND day IS NULL AND payload ->> 'timestamp' IS NOT NULL
"""


def fill(apps, schema_editor):
    after = 0
    while True:
        with schema_editor.connection.cursor() as cursor:
            cursor.execute(LAST_OF_PAGE, [after, PAGE])
            last = cursor.fetchone()[0]
        if last is None:
            return
        fill_page(schema_editor.connection, after, last)
        after = last


def fill_page(connection, after, last):
    for attempt in range(ATTEMPTS):
        try:
            with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
                cursor.execute(ALLOW)
                cursor.execute(FILL, [after, last])
            return
        except OperationalError as error:
            if getattr(error.__cause__, "pgcode", getattr(error.__cause__, "sqlstate", "")) != DEADLOCK:
                raise
            if attempt == ATTEMPTS - 1:
                raise


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("bridge", "0012_day")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
