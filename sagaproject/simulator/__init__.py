"""Plays Data Retrieval, Anonymization and Processing on the wire, and judges from outside how each saga ends.

A foreign service in all but its address: it shares no code with the engine, so that it can catch the engine's bugs.
"""
