"""Fills a database with any number of sagas, each as the service itself would have written it.

`rehearsal` plays some hundred of the simulator's stories through the real codec, event log, engine and outbox, on a
clock of its own, in a transaction that is rolled back. `template` turns the rows that came of it into texts with
slots. `fill` stamps them out with new ids and times by COPY, a bounded number in each transaction.
"""
