"""The live way in: `POST /events` and Kafka, to an append log on disk, which followers bring onward.

    HTTP, Kafka -> incoming (the contract) -> intake (verdict of every event) -> log (synced, then answered)
    log -> followers: the compactor (into the lake), and what other folders hand in (the online store)

At least once comes in; an event has its effect once, by its id: the intake, the lake and every follower know it. What
has been answered is on disk. Nothing here knows a feature or a model.
"""
