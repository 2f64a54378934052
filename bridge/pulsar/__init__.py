"""The only place that speaks Pulsar's client: its exceptions, its quirks and its objects end here."""
