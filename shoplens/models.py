"""The models by task and name, from simple to deep: what `params.yaml` may name, and where each class is.

A line here registers a model. Its module is imported only when the model is used, and this file by the parameters,
so that an unknown name is rejected before any stage runs.
"""

MODELS: dict[str, dict[str, str]] = {
    "purchase": {
        "base_rate": "training.models.baselines:BaseRate",
        "personal_frequency": "training.models.baselines:PersonalFrequency",
        "decision_tree": "training.models.baselines:DecisionTree",
        "boosted_trees": "training.models.baselines:BoostedTrees",
        "hazard_network": "training.models.hazard_network:HazardNetwork",
        "daily_network": "training.models.daily_network:DailyNetwork",
        "hazard_blend": "training.models.blend:HazardBlend",
        "cnn": "training.models.encoders:Cnn",
        "lstm": "training.models.encoders:Lstm",
        "transformer": "training.models.encoders:Transformer",
    },
    "next_item": {
        "popularity": "training.models.counts:Popularity",
        "decayed_frequency": "training.models.counts:DecayedFrequency",
        "item_knn": "training.models.knn:ItemKnn",
        "sequential_rules": "training.models.knn:SequentialRules",
        "ease": "training.models.knn:Ease",
        "tifu_knn": "training.models.knn:TifuKnn",
        "up_cf": "training.models.knn:UpCf",
        "lambdarank": "training.models.lambdarank:LambdaRank",
        "listwise_ranker": "training.models.ranker:ListwiseRanker",
    },
}
