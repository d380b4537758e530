"""Every error that cutback raises on purpose.

One tree, one root. Each message answers three questions in one line: what happened, where, and what to do now. Only the
command line turns an error into an exit status.
"""


class CutbackError(Exception):
    """Root of the tree. `exit_status` is what the command line ends with."""

    exit_status = 2


class BadInput(CutbackError):
    """What the user gave cannot be used: a file, a shape, an option, a data set."""


class GoalNotMet(CutbackError):
    """Everything worked, and a goal or gate was missed; the message says the best that was reached."""

    exit_status = 1


class ProofFailed(CutbackError):
    """A cut network differs from its masked original: a defect of cutback, never of the model. Nothing was written."""


class TargetError(CutbackError):
    """A device, its transport or its runtime could not do what was asked."""


class LinkLost(TargetError):
    """The way to a device, or the agent on it, is gone; what was asked may be asked again over a new one."""


class NoKernelTimes(TargetError):
    """Kernels alone were to be timed, and the runtime, with its options, tells only how long a whole network takes."""


class RuntimeMissing(TargetError):
    """The runtime is not installed where it is needed; the message carries the command that installs it."""


class ProfileMissing(TargetError):
    """A latency was asked for that the profile database does not hold."""
