from django.apps import AppConfig


class SagaprojectConfig(AppConfig):
    name = "sagaproject"
