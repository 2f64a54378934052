"""The version of this service, as health and the API's schema show it."""

VERSION = "0.1.0"
