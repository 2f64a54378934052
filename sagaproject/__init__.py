"""Composition: what the packages are told, and how their processes are started."""

from sagaproject.celery import app as celery_app

__all__ = ["celery_app"]
