"""The list of one type's sagas: of a rare type beside a million others a page was a walk through all of them.

Its columns do not change once a saga is there, so that its row is as cheap to write as it was.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("sagas", "0005_unchecked_logs")]

    operations = [
        migrations.AddIndex(
            model_name="sagalog",
            index=models.Index(fields=["saga_type", "-start_time", "-id"], name="saga_type_newest"),
        ),
    ]
