"""Live intake: `POST /events`, other trackers' calls and Kafka, through a log on disk, to followers.

    HTTP, Kafka -> records (the contract) or mapped (a mapping) -> intake (verdicts) -> log (on disk, then answered)
    log -> followers: the compactor (into the lake), and those of other folders (the online store)

Events may arrive more than once; an event has its effect once, by its ID: the intake, the lake and every follower know
it. What was answered is on disk. Nothing here knows a feature or a model.
"""
