"""The only package that uses Pulsar's client: its exceptions, quirks and objects do not leave it."""
