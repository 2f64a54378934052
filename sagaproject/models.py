"""The counters that the web processes share."""

from django.db import models


class RequestCount(models.Model):
    """How many requests a client made since its time window began. Written by sagaproject.request_counts."""

    key = models.CharField(primary_key=True, max_length=100)
    count = models.PositiveIntegerField()
    ends_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "sagaproject_request_count"
        # Only the service itself reads and changes it.
        default_permissions = ()

    def __str__(self) -> str:
        return self.key
