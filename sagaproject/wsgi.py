"""The WSGI application, for the web server (sagaproject.web_server)."""

import os

import django

from sagaproject.requests import Handler

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sagaproject.settings")
django.setup(set_prefix=False)
application = Handler()
