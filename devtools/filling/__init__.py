"""Fill a database with any number of sagas, each as the service itself would have written it.

`rehearsal` runs a few hundred of the simulator's tasks through the real codec, event log, engine and outbox, with a
simulated clock, in a transaction that is rolled back. `template` turns the resulting rows into texts with slots. `fill`
writes copies of them with new ids and times by COPY, a limited number in each transaction.
"""
