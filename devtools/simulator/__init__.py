"""Play Data Retrieval, Anonymization and Processing on Pulsar, and check from outside how each saga ends.

The simulator shares no code with the engine, as if it were an external service, so that it can detect bugs there.
"""
