"""What the web processes count together."""

from django.db import models


class RequestCount(models.Model):
    """How many requests somebody made since their window of time began; written by sagaproject.request_counts."""

    key = models.CharField(primary_key=True, max_length=100)
    count = models.PositiveIntegerField()
    ends_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "sagaproject_request_count"
        # Nobody reads or changes it but the service.
        default_permissions = ()

    def __str__(self) -> str:
        return self.key
