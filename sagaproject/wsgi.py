"""The WSGI application, for gunicorn."""

import os

import django

from sagaproject.requests import Handler

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sagaproject.settings")
django.setup(set_prefix=False)
application = Handler()
