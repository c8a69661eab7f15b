"""The exception tree. Every error that ShopLens raises on purpose is one of these.

ShopLensError
├── SettingsError          an environment variable or params.yaml is wrong
├── MappingError           a source mapping file is wrong
├── SourceError            an input file is missing, unreadable or of an unknown kind
├── BrokenTableError       a table fails an expectation that stops the run
├── FeatureError           a feature definition or store does not fit what is asked of it
│   └── StoreUnavailableError   the online store cannot be reached
├── ModelError             a model, its parameters or its artifact do not fit
│   ├── DivergedError           training ended with weights that are not finite
│   └── NothingToLearnError     the log has no rows, or no labels, for a task
├── ReleaseError           a package cannot be built, evaluated or released
│   └── IncomparableError       the model in service cannot be evaluated on the current held-out rows
├── ExplainerBusyError     the explanation worker is starting or occupied; ask again shortly
├── StageBusyError         another process is already writing this stage's outs, or this log
├── CollectorBusyError     the collector's queue is full; resend the same events shortly
└── LocalRunError          the platform on one machine cannot start, run or stop
    └── PortInUseError
"""


class ShopLensError(Exception):
    """Base class. The message names the field or argument, the rule, the value received, and the remedy."""


class SettingsError(ShopLensError):
    """An environment variable, an argument or a parameter of params.yaml is wrong."""


class MappingError(ShopLensError):
    """A source mapping file is wrong."""


class SourceError(ShopLensError):
    """An input is missing, unreadable or of an unknown kind."""


class BrokenTableError(ShopLensError):
    """A table fails an expectation that stops the run."""


class FeatureError(ShopLensError):
    """A feature definition or a store does not fit what is asked of it."""


class StoreUnavailableError(FeatureError):
    """The online store cannot be reached."""


class ModelError(ShopLensError):
    """A model, its parameters or its artifact do not fit."""


class DivergedError(ModelError):
    """Training ended with weights that are not finite."""


class NothingToLearnError(ModelError):
    """The log has nothing that a model of one task could learn from; a model of the other task may still be trained."""


class ReleaseError(ShopLensError):
    """A package cannot be built, evaluated or released."""


class IncomparableError(ReleaseError):
    """The model in service cannot be evaluated on the current held-out rows."""


class ExplainerBusyError(ShopLensError):
    """The explanation worker is starting or occupied; the same request may be sent again shortly."""


class StageBusyError(ShopLensError):
    """Another process is already writing this stage's outs, or this log."""


class CollectorBusyError(ShopLensError):
    """The collector's queue is full; nothing was stored, and the same events may be resent shortly."""


class LocalRunError(ShopLensError):
    """The platform on one machine cannot start, run or stop."""


class PortInUseError(LocalRunError):
    """A port that the platform needs is already in use."""
