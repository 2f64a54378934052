"""Composition: connects the packages and starts their processes."""

from sagaproject.celery import app as celery_app

__all__ = ["celery_app"]
