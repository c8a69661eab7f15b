"""Live intake: `POST /events`, other trackers' calls and Kafka, through a log on disk, to followers.

    HTTP, Kafka -> records (the contract) or mapped (a mapping) -> intake (verdicts) -> log (on disk, then answered)
    log -> followers: the compactor (into the lake), and those of other folders (the online store)

Events may arrive more than once but take effect once: the intake, the lake and every follower deduplicate by ID. An
acknowledged event is on disk. Nothing here depends on features or models.
"""
