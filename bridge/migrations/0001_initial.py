from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Duplicate",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("event", models.BigIntegerField(db_index=True, verbose_name="event")),
                ("received_at", models.DateTimeField(verbose_name="received at")),
                ("topic", models.TextField(blank=True, verbose_name="topic")),
                ("message_id", models.TextField(blank=True, verbose_name="Pulsar message id")),
            ],
            options={
                "verbose_name": "repeated delivery",
                "verbose_name_plural": "repeated deliveries",
                "db_table": "bridge_duplicate",
            },
        ),
        migrations.CreateModel(
            name="Heartbeat",
            fields=[
                ("name", models.TextField(primary_key=True, serialize=False, verbose_name="name")),
                (
                    "kind",
                    models.TextField(
                        choices=[("bridge", "bridge"), ("publisher", "publisher"), ("sweeper", "sweeper")],
                        verbose_name="kind",
                    ),
                ),
                ("started_at", models.DateTimeField(verbose_name="started at")),
                ("beat_at", models.DateTimeField(verbose_name="last beat")),
                ("connected", models.BooleanField(verbose_name="connected")),
                (
                    "well_since",
                    models.DateTimeField(
                        help_text="since when connected and caught up without a break; empty: it is not",
                        null=True,
                        verbose_name="well since",
                    ),
                ),
                ("last_message_at", models.DateTimeField(null=True, verbose_name="last message at")),
                ("detail", models.JSONField(default=dict, verbose_name="detail")),
            ],
            options={
                "verbose_name": "heartbeat",
                "verbose_name_plural": "heartbeats",
                "db_table": "bridge_heartbeat",
            },
        ),
        migrations.CreateModel(
            name="Pending",
            fields=[
                ("id", models.BigIntegerField(help_text="the event's", primary_key=True, serialize=False)),
                ("key", models.TextField(db_collation="C", verbose_name="routing key")),
                (
                    "lane",
                    models.TextField(
                        help_text="only of an event that a person attached to a lane", null=True, verbose_name="lane"
                    ),
                ),
            ],
            options={
                "verbose_name": "pending event",
                "verbose_name_plural": "pending events",
                "db_table": "bridge_pending",
            },
        ),
        migrations.CreateModel(
            name="Event",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "source",
                    models.TextField(
                        choices=[("pulsar", "Pulsar"), ("operator", "a person"), ("compensation", "compensation")],
                        db_collation="C",
                        verbose_name="source",
                    ),
                ),
                ("event_id", models.TextField(db_collation="C", verbose_name="event id")),
                (
                    "stream",
                    models.TextField(
                        db_collation="C", help_text="which kind of saga the event speaks of", verbose_name="stream"
                    ),
                ),
                ("type", models.TextField(db_collation="C", verbose_name="type")),
                (
                    "key",
                    models.TextField(
                        blank=True, db_collation="C", help_text="empty if the message names none", verbose_name="key"
                    ),
                ),
                (
                    "entity",
                    models.TextField(
                        blank=True, db_collation="C", help_text="empty if the message names none", verbose_name="entity"
                    ),
                ),
                ("correlation_id", models.TextField(blank=True, db_collation="C", verbose_name="correlation id")),
                ("occurred_at", models.DateTimeField(verbose_name="occurred at")),
                ("received_at", models.DateTimeField(verbose_name="received at")),
                ("topic", models.TextField(blank=True, verbose_name="topic")),
                ("message_id", models.TextField(blank=True, verbose_name="Pulsar message id")),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="what the bridge had to fill in or to choose", verbose_name="note"
                    ),
                ),
                ("payload", models.JSONField(verbose_name="payload")),
                ("body_hash", models.BinaryField(verbose_name="hash of the content")),
            ],
            options={
                "verbose_name": "event",
                "verbose_name_plural": "events",
                "db_table": "bridge_event",
                "base_manager_name": "objects",
                "indexes": [models.Index(fields=["stream", "key"], name="bridge_event_stream_key")],
                "constraints": [models.UniqueConstraint(fields=("source", "event_id"), name="bridge_event_once")],
            },
        ),
        migrations.CreateModel(
            name="Quarantined",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("topic", models.TextField(verbose_name="topic")),
                ("message_id", models.TextField(verbose_name="Pulsar message id")),
                ("published_at", models.DateTimeField(null=True, verbose_name="published at")),
                ("received_at", models.DateTimeField(verbose_name="received at")),
                ("body", models.BinaryField(verbose_name="body")),
                ("body_hash", models.BinaryField(verbose_name="hash of the body")),
                ("properties", models.JSONField(default=dict, verbose_name="properties")),
                (
                    "code",
                    models.TextField(
                        choices=[
                            ("too-large", "body over the limit"),
                            ("not-json", "not JSON"),
                            ("not-an-object", "JSON, but not an object"),
                            ("too-deep", "nested too deeply"),
                            ("bad-text", "text with NUL or half a character"),
                            ("bad-number", "number too large to be kept exactly"),
                            ("unknown-type", "unknown type of event"),
                            ("bad-id", "an id that is none"),
                            ("no-key", "names neither a key nor an entity"),
                            ("bad-timestamp", "timestamp that cannot be right"),
                            ("wrong-type", "a known field of a wrong type"),
                            ("conflicting-content", "id already seen with other content"),
                            ("refused-by-database", "refused by the database"),
                        ],
                        verbose_name="code",
                    ),
                ),
                ("reason", models.TextField(verbose_name="reason")),
                (
                    "status",
                    models.TextField(
                        choices=[("open", "open"), ("requeued", "requeued"), ("dismissed", "dismissed")],
                        default="open",
                        verbose_name="status",
                    ),
                ),
                ("decided_at", models.DateTimeField(null=True, verbose_name="decided at")),
                ("decided_by", models.TextField(blank=True, verbose_name="decided by")),
                ("decided_why", models.TextField(blank=True, verbose_name="decided why")),
            ],
            options={
                "verbose_name": "quarantined message",
                "verbose_name_plural": "quarantined messages",
                "db_table": "bridge_quarantined",
                "indexes": [models.Index(fields=["status", "-received_at"], name="bridge_quarantined_open")],
                "constraints": [
                    models.UniqueConstraint(fields=("topic", "message_id", "body_hash"), name="bridge_quarantined_once")
                ],
            },
        ),
        # A queue lives by its dead rows being cleared away soon; a log that only grows, by its pages being seen as frozen.
        migrations.RunSQL(
            "ALTER TABLE bridge_pending SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);"
            "ALTER TABLE bridge_event SET (autovacuum_vacuum_insert_scale_factor = 0.05);",
            "ALTER TABLE bridge_pending RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_cost_delay);"
            "ALTER TABLE bridge_event RESET (autovacuum_vacuum_insert_scale_factor);",
        ),
    ]
